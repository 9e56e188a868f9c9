package vindex

import (
	"errors"
	"fmt"
	"strings"
)

// What a [*TableError] wraps, besides this package's typed errors.
var (
	// ErrNoVindex says that a table of a sharded keyspace has no column_vindexes: add its primary vindex to
	// the VSchema.
	ErrNoVindex = errors.New("it is in a sharded keyspace and has no column_vindexes")
	// ErrUndefined says that a table names a vindex that the VSchema does not define.
	ErrUndefined = errors.New("the VSchema defines no such vindex")
)

// Why a value has no keyspace id; a [*ValueError] wraps one of them.
var (
	// ErrNull says that the value is NULL, and that the vindex maps NULL to nothing.
	ErrNull = errors.New("NULL has no keyspace id")
	// ErrNotInteger says that the vindex takes integers, or text that is one, of at most 64 bits. Only hash takes negative
	// ones, of integer columns.
	ErrNotInteger = errors.New("it is not a 64-bit integer")
	// ErrFloat says that the value is a FLOAT or DOUBLE. Their text is not the same in queries, in results and in
	// the binlog, so neither would be their keyspace id.
	ErrFloat = errors.New("floating-point numbers have no text of their own")
	// ErrNotUTF8 says that unicode_loose_* got text that is not UTF-8.
	ErrNotUTF8 = errors.New("it is not valid UTF-8")
	// ErrTooShort says that cfc got less bytes than its last offset.
	ErrTooShort = errors.New("it is shorter than the last offset")
	// ErrUnmapped says that the region map has no such key.
	ErrUnmapped = errors.New("the region map does not have it")
)

// UnsupportedError says that a vindex type can't compute keyspace ids here.
type UnsupportedError struct {
	Type   string
	Reason string
}

func (e *UnsupportedError) Error() string { return fmt.Sprintf("vindex type %q: %s", e.Type, e.Reason) }

func unsupported(typ string) error {
	if strings.HasPrefix(typ, "lookup") || strings.HasPrefix(typ, "consistent_lookup") {
		return &UnsupportedError{typ, "it looks keyspace ids up in a table; only functional vindexes can place rows"}
	}
	return &UnsupportedError{typ, "there is no such type; known are " + strings.Join(types, ", ")}
}

// ParamError says which parameter of a vindex is missing or wrong.
type ParamError struct {
	Type  string // of the vindex
	Param string
	Err   error
}

func (e *ParamError) Error() string {
	return fmt.Sprintf("vindex type %s: parameter %s: %v", e.Type, e.Param, e.Err)
}

// Unwrap returns Err.
func (e *ParamError) Unwrap() error { return e.Err }

// ColumnsError says that a vindex takes another number of columns.
type ColumnsError struct {
	Type      string // of the vindex
	Want, Got int
}

func (e *ColumnsError) Error() string {
	return fmt.Sprintf("vindex type %s takes %d columns, not %d", e.Type, e.Want, e.Got)
}

// ValueError says which value of a row has no keyspace id, or, from [Vindex.Check], which column can't have any.
// It does not hold the value: that may be nobody's business.
type ValueError struct {
	Type   string // of the vindex
	Column int    // position among the vindex columns, from 0
	Class  Class  // of the value
	Err    error  // one of the sentinels above
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("vindex type %s: column %d (%s): %v", e.Type, e.Column+1, e.Class, e.Err)
}

// Unwrap returns Err.
func (e *ValueError) Unwrap() error { return e.Err }

// TableError says why the VSchema does not tell where a table's rows are.
type TableError struct {
	Table  string
	Vindex string // name of its primary vindex; empty if it is not about that
	Err    error
}

func (e *TableError) Error() string {
	if e.Vindex == "" {
		return fmt.Sprintf("table %s: %v", e.Table, e.Err)
	}
	return fmt.Sprintf("table %s, primary vindex %s: %v", e.Table, e.Vindex, e.Err)
}

// Unwrap returns Err.
func (e *TableError) Unwrap() error { return e.Err }
