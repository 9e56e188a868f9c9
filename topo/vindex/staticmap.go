package vindex

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// newStaticMap returns the function of numeric_static_map: a number's id is the number that a map has for it, else
// what the fallback says, else the number itself.
func newStaticMap(params map[string]string, o Options) (hasher, error) {
	const typ = "numeric_static_map"
	text, inline := params["json"]
	name, file := params["json_path"]
	param, data := "json", []byte(text)
	switch {
	case inline && file:
		return nil, &ParamError{typ, param, errors.New("it is given, and so is json_path; give one of them")}
	case !inline && !file:
		return nil, &ParamError{typ, param, errors.New("neither it nor json_path is given")}
	case file:
		var err error
		param = "json_path"
		if data, err = o.readFile(typ, param, name); err != nil {
			return nil, err
		}
	}
	numbers, err := parseNumbers(data)
	if err != nil {
		return nil, &ParamError{typ, param, err}
	}
	var fallback hasher = bigEndian
	if f, ok := params["fallback_type"]; ok {
		if fallback, err = newHasher(f, nil, o); err != nil {
			return nil, &ParamError{typ, "fallback_type", fmt.Errorf("%q: %w", f, err)}
		}
	}
	return func(dst []byte, v Value) ([]byte, error) {
		n, err := v.number()
		if err != nil {
			return dst, err
		}
		if to, ok := numbers[n]; ok {
			return binary.BigEndian.AppendUint64(dst, to), nil
		}
		return fallback(dst, v)
	}, nil
}

// parseNumbers reads {"1": 2, …}.
func parseNumbers(data []byte) (map[uint64]uint64, error) {
	var texts map[string]uint64
	if err := json.Unmarshal(data, &texts); err != nil {
		return nil, err
	}
	numbers := make(map[uint64]uint64, len(texts))
	for text, to := range texts {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("key %q is not an unsigned integer", text)
		}
		if _, twice := numbers[n]; twice {
			return nil, fmt.Errorf("key %d is there twice", n)
		}
		numbers[n] = to
	}
	return numbers, nil
}
