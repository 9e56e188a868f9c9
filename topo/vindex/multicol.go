package vindex

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// maxBytes is the length of multicol's ids.
const maxBytes = 8

// multicol concatenates the first bytes of the ids of several columns.
type multicol []part

type part struct {
	hash  hasher
	bytes int
}

func newMulticol(params map[string]string, o Options) (function, error) {
	const typ = "multicol"
	n, err := strconv.Atoi(params["column_count"])
	if err != nil || n < 1 || n > maxBytes {
		return nil, &ParamError{typ, "column_count", fmt.Errorf("%q is not a number from 1 to %d", params["column_count"], maxBytes)}
	}
	f := make(multicol, n)
	if err := errors.Join(f.setBytes(params), f.setHashes(params, o)); err != nil {
		return nil, err
	}
	return f, nil
}

// list splits a parameter; what is not given is empty.
func (f multicol) list(params map[string]string, param string) ([]string, error) {
	out := make([]string, len(f))
	text, ok := params[param]
	if !ok {
		return out, nil
	}
	items := strings.Split(text, ",")
	if len(items) > len(f) {
		return nil, &ParamError{"multicol", param, fmt.Errorf("it has %d items for %d columns", len(items), len(f))}
	}
	copy(out, items)
	return out, nil
}

// setBytes shares the bytes of the id: what is not given to a column is spread evenly, the first columns getting
// more.
func (f multicol) setBytes(params map[string]string) error {
	const param = "column_bytes"
	bad := func(format string, args ...any) error {
		return &ParamError{"multicol", param, fmt.Errorf(format, args...)}
	}
	items, err := f.list(params, param)
	if err != nil {
		return err
	}
	left, open := maxBytes, 0
	for i, item := range items {
		if item == "" {
			open++
			continue
		}
		if f[i].bytes, err = strconv.Atoi(item); err != nil || f[i].bytes < 0 || f[i].bytes > maxBytes {
			return bad("%q is not a number from 0 to %d", item, maxBytes)
		}
		left -= f[i].bytes
	}
	if open > left {
		return bad("the columns have more than %d bytes in all, or none is left for one of them", maxBytes)
	}
	for i, item := range items {
		if item == "" {
			f[i].bytes = (left + open - 1) / open
			left -= f[i].bytes
			open--
		}
	}
	return nil
}

// setHashes makes the functions of the columns. They get the parameters that are not multicol's own.
func (f multicol) setHashes(params map[string]string, o Options) error {
	const param = "column_vindex"
	items, err := f.list(params, param)
	if err != nil {
		return err
	}
	rest := maps.Clone(params)
	for _, own := range []string{"column_count", "column_bytes", param} {
		delete(rest, own)
	}
	for i, item := range items {
		name := strings.TrimSpace(item)
		if name == "" {
			name = "hash"
		}
		if f[i].hash, err = newHasher(name, rest, o); err != nil {
			return &ParamError{"multicol", param, fmt.Errorf("%q: %w", name, err)}
		}
	}
	return nil
}

func (f multicol) columns() int { return len(f) }

func (f multicol) appendID(dst []byte, values []Value) ([]byte, int, error) {
	end := len(dst)
	for i, p := range f {
		for len(dst) < end {
			dst = append(dst, 0) // the id of the column before was shorter than its share
		}
		var err error
		if dst, err = p.hash(dst, values[i]); err != nil {
			return dst, i, err
		}
		end += p.bytes
		dst = dst[:min(len(dst), end)]
	}
	return dst, 0, nil
}
