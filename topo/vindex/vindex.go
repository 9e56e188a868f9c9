package vindex

import (
	"crypto/fips140"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

// Options are what a vindex may need besides its parameters. The zero value is right for all but two types.
type Options struct {
	// ReadFile reads the JSON files that a VSchema names: json_path of numeric_static_map and region_map of
	// region_json. Nil refuses such vindexes with a [*ParamError] that wraps [fs.ErrPermission]: a topology that
	// others write should not choose which files a program opens. [os.ReadFile] opens any, [os.Root.ReadFile] those
	// of one directory.
	ReadFile func(name string) ([]byte, error)
}

// readFile reads the file that a parameter names.
func (o Options) readFile(typ, param, name string) ([]byte, error) {
	if o.ReadFile == nil {
		return nil, &ParamError{typ, param, fmt.Errorf("it names a file, and Options.ReadFile is not set: %w", fs.ErrPermission)}
	}
	b, err := o.ReadFile(name)
	if err != nil {
		return nil, &ParamError{typ, param, err}
	}
	return b, nil
}

// types are the types that New knows.
var types = []string{
	"binary", "binary_md5", "cfc", "hash", "multicol", "null", "numeric", "numeric_static_map", "region_experimental",
	"region_json", "reverse_bits", "unicode_loose_md5", "unicode_loose_xxhash", "xxhash",
}

// Types returns the vindex types that [New] knows, sorted.
func Types() []string { return slices.Clone(types) }

// weak are the types that need MD5 or DES, which a program may have forbidden itself.
var weak = []string{"binary_md5", "hash", "region_experimental", "region_json", "unicode_loose_md5"}

// A Vindex computes keyspace ids from column values. It is immutable, and safe for use by many goroutines.
type Vindex struct {
	typ     string
	unknown []string
	fn      function
}

// A function is what tells one type of vindex from the other.
type function interface {
	columns() int
	// appendID appends the keyspace id of as many values as there are columns. With an error comes the
	// position of the value that it is about.
	appendID(dst []byte, values []Value) (id []byte, column int, err error)
}

// A hasher is a function of one column. Only hashers can be parts of other functions.
type hasher func(dst []byte, v Value) ([]byte, error)

func (h hasher) columns() int { return 1 }

func (h hasher) appendID(dst []byte, values []Value) ([]byte, int, error) {
	id, err := h(dst, values[0])
	return id, 0, err
}

// New returns the vindex of a type, such as "xxhash", with the parameters that the VSchema gives it. It reads no
// file unless o says how.
//
// Errors: an [*UnsupportedError] for types that are unknown or need a lookup table, [*ParamError]s for parameters
// that are missing or wrong. Parameters that the type doesn't know are ignored, see [Vindex.UnknownParams].
func New(typ string, params map[string]string, o Options) (*Vindex, error) {
	fn, err := newFunction(typ, params, o)
	if err != nil {
		return nil, err
	}
	v := &Vindex{typ: typ, fn: fn}
	for _, p := range slices.Sorted(maps.Keys(params)) {
		if !slices.Contains(knownParams(typ), p) {
			v.unknown = append(v.unknown, p)
		}
	}
	return v, nil
}

func newFunction(typ string, params map[string]string, o Options) (function, error) {
	if err := checkAllowed(typ); err != nil {
		return nil, err
	}
	switch typ {
	case "null":
		return hasher(zero), nil
	case "cfc":
		return newCFC(params)
	case "multicol":
		return newMulticol(params, o)
	case "region_experimental":
		return newRegionExperimental(params)
	case "region_json":
		return newRegionJSON(params, o)
	}
	h, err := newHasher(typ, params, o)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// errNoPart says that a vindex can't be a part of multicol or the fallback of numeric_static_map.
var errNoPart = errors.New("it can't be a part of another vindex")

// newHasher returns a function of those types that can be parts of others.
func newHasher(typ string, params map[string]string, o Options) (hasher, error) {
	if err := checkAllowed(typ); err != nil {
		return nil, err
	}
	switch typ {
	case "binary":
		return identity, nil
	case "binary_md5":
		return md5Of, nil
	case "hash":
		return newDES()
	case "numeric":
		return bigEndian, nil
	case "numeric_static_map":
		return newStaticMap(params, o)
	case "reverse_bits":
		return reversed, nil
	case "unicode_loose_md5":
		return looseMD5, nil
	case "unicode_loose_xxhash":
		return looseXXHash, nil
	case "xxhash":
		return xxHash, nil
	}
	if slices.Contains(types, typ) {
		return nil, errNoPart
	}
	return nil, unsupported(typ)
}

// checkAllowed refuses what would panic in a program that runs with GODEBUG=fips140=only.
func checkAllowed(typ string) error {
	if slices.Contains(weak, typ) && fips140.Enforced() {
		return &UnsupportedError{typ, "it needs MD5 or DES, which FIPS 140-only mode forbids"}
	}
	return nil
}

// knownParams returns the parameters that a type reads.
func knownParams(typ string) []string {
	staticMap := []string{"json", "json_path", "fallback_type"}
	switch typ {
	case "cfc":
		return []string{"hash", "offsets"}
	case "multicol":
		return append(staticMap, "column_count", "column_bytes", "column_vindex") // its parts get the same
	case "numeric_static_map":
		return staticMap
	case "region_experimental":
		return []string{"region_bytes"}
	case "region_json":
		return []string{"region_bytes", "region_map"}
	}
	return nil
}

// Type returns the vindex type, such as "xxhash".
func (v *Vindex) Type() string { return v.typ }

// Columns returns how many columns the vindex takes.
func (v *Vindex) Columns() int { return v.fn.columns() }

// UnknownParams returns the names of the parameters that the type does not know, sorted: they are worth a warning.
func (v *Vindex) UnknownParams() []string { return slices.Clone(v.unknown) }

// Check tells whether columns of these classes can have keyspace ids at all: a [*ColumnsError] says that there are
// too few or too many, a [*ValueError] that one of them is a Float. Other values are looked at one by one, by
// [Vindex.Map].
func (v *Vindex) Check(classes ...Class) error {
	if len(classes) != v.Columns() {
		return &ColumnsError{v.typ, v.Columns(), len(classes)}
	}
	if v.typ == "null" {
		return nil
	}
	if i := slices.Index(classes, Float); i >= 0 {
		return &ValueError{v.typ, i, Float, ErrFloat}
	}
	return nil
}

// Map appends to dst the keyspace id of a row with these values, which are those of the vindex columns in their
// order. It keeps neither dst nor values. If dst has room for 24 more bytes it allocates nothing, but for ids as long
// as the values (binary, cfc, and multicol with binary) and for unicode_loose_* of some letters.
//
// A [*ValueError] says that the row has no keyspace id, so no shard can hold it; a [*ColumnsError] that there are
// too few or too many values. Then dst is returned as it was.
func (v *Vindex) Map(dst []byte, values []Value) ([]byte, error) {
	if len(values) != v.fn.columns() {
		return dst, &ColumnsError{v.typ, v.fn.columns(), len(values)}
	}
	id, column, err := v.fn.appendID(dst, values)
	if err != nil {
		return dst, &ValueError{v.typ, column, values[column].Class, err}
	}
	return id, nil
}
