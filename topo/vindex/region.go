package vindex

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// numberHash is the vindex hash of a number that is not negative: the regions take no others.
func numberHash() (hasher, error) {
	hash, err := newDES()
	return func(dst []byte, v Value) ([]byte, error) {
		if _, err := v.number(); err != nil {
			return dst, err
		}
		return hash(dst, v)
	}, err
}

// appendRegion appends the last one or two bytes of a region's number, as Vitess does: higher bits are lost.
func appendRegion(dst []byte, region uint64, size int) []byte {
	if size == 1 {
		return append(dst, byte(region))
	}
	return binary.BigEndian.AppendUint16(dst, uint16(region))
}

// regionBytes reads the parameter that both region vindexes have.
func regionBytes(typ string, params map[string]string) (int, error) {
	switch s := params["region_bytes"]; s {
	case "1":
		return 1, nil
	case "2":
		return 2, nil
	default:
		return 0, &ParamError{typ, "region_bytes", fmt.Errorf("%q is neither 1 nor 2", s)}
	}
}

// regionExperimental is a function of (region, id): the region's bytes, then hash(id).
type regionExperimental struct {
	size int
	hash hasher
}

func newRegionExperimental(params map[string]string) (function, error) {
	size, err := regionBytes("region_experimental", params)
	if err != nil {
		return nil, err
	}
	hash, err := numberHash()
	if err != nil {
		return nil, err
	}
	return &regionExperimental{size, hash}, nil
}

func (f *regionExperimental) columns() int { return 2 }

func (f *regionExperimental) appendID(dst []byte, values []Value) ([]byte, int, error) {
	region, err := values[0].number()
	if err != nil {
		return dst, 0, err
	}
	dst, err = f.hash(appendRegion(dst, region, f.size), values[1])
	return dst, 1, err
}

// regionJSON is a function of (id, country): the bytes of the country's region, then hash(id).
type regionJSON struct {
	size    int
	regions map[string]uint64
	hash    hasher
}

func newRegionJSON(params map[string]string, o Options) (function, error) {
	const typ, param = "region_json", "region_map"
	size, err := regionBytes(typ, params)
	if err != nil {
		return nil, err
	}
	name, ok := params[param]
	if !ok {
		return nil, &ParamError{typ, param, errors.New("it is not given; it is the path of a JSON file such as {\"fr\": 1}")}
	}
	data, err := o.readFile(typ, param, name)
	if err != nil {
		return nil, err
	}
	f := &regionJSON{size: size}
	if err := json.Unmarshal(data, &f.regions); err != nil {
		return nil, &ParamError{typ, param, err}
	}
	if f.hash, err = numberHash(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *regionJSON) columns() int { return 2 }

func (f *regionJSON) appendID(dst []byte, values []Value) ([]byte, int, error) {
	country, err := values[1].text()
	if err != nil {
		return dst, 1, err
	}
	region, ok := f.regions[string(country)]
	if !ok {
		return dst, 1, ErrUnmapped
	}
	dst, err = f.hash(appendRegion(dst, region, f.size), values[0])
	return dst, 0, err
}
