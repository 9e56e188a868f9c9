package vindex

import (
	"encoding/json"
	"errors"
	"fmt"
)

// cfc hashes a key that is made of components of fixed width, each component by itself, so that keys that begin
// alike have ids that begin alike.
type cfc struct {
	hash    func(dst, b []byte) []byte
	offsets []int // ends of the components but the last
}

func newCFC(params map[string]string) (function, error) {
	const typ = "cfc"
	f := &cfc{}
	switch h := params["hash"]; h {
	case "":
		return hasher(identity), nil
	case "md5":
		if err := checkAllowed("binary_md5"); err != nil {
			return nil, &ParamError{typ, "hash", err}
		}
		f.hash = appendMD5
	case "xxhash64":
		f.hash = appendXXHash
	default:
		return nil, &ParamError{typ, "hash", fmt.Errorf(`%q is none of "", "md5", "xxhash64"`, h)}
	}
	if err := json.Unmarshal([]byte(params["offsets"]), &f.offsets); err != nil || len(f.offsets) == 0 {
		return nil, &ParamError{typ, "offsets", errors.New("a hash needs a list of integers such as [2,4]")}
	}
	last := 0
	for _, o := range f.offsets {
		if o <= last {
			return nil, &ParamError{typ, "offsets", fmt.Errorf("%v is not a rising list of positive integers", f.offsets)}
		}
		last = o
	}
	return hasher(f.appendHashes), nil
}

func (f *cfc) appendHashes(dst []byte, v Value) ([]byte, error) {
	b, err := v.text()
	if err != nil {
		return dst, err
	}
	if len(b) < f.offsets[len(f.offsets)-1] {
		return dst, ErrTooShort
	}
	start := 0
	for _, end := range f.offsets {
		dst = f.appendComponent(dst, b[start:end])
		start = end
	}
	return f.appendComponent(dst, b[start:]), nil
}

// appendComponent appends a hash that is no longer than the component.
func (f *cfc) appendComponent(dst, component []byte) []byte {
	n := len(dst)
	dst = f.hash(dst, component)
	return dst[:min(len(dst), n+len(component))]
}
