package routing_test

import (
	"bytes"
	"crypto/des"
	"crypto/md5"
	"encoding/binary"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// This is a second opinion on keyspace ids, which shares no code with package vindex. It takes values as a client sees them that
// speaks UTF-8, a vtgate for instance.

// A seen is a value as a client gets it; nil is NULL. Of numbers, it knows whether the type is that of signed integers.
type seen struct {
	text   []byte
	signed bool
}

func (s seen) String() string { return string(s.text) }

// A naive function returns the keyspace id of some values; not ok if they have none.
type naive func(values ...seen) (id []byte, ok bool)

// naiveParams are the parameters of the vindexes in naives that take some.
var naiveParams = map[string]map[string]string{
	"numeric_static_map": {"json": `{"1": 2, "127": 9, "18446744073709551615": 18446744073709551615}`},
	"cfc":                {"hash": "xxhash64", "offsets": "[1,3]"},
}

var naiveMap = map[uint64]uint64{1: 2, 127: 9, 1<<64 - 1: 1<<64 - 1}

// naives are the vindexes of one column, by type.
var naives = map[string]naive{
	"null":       func(...seen) ([]byte, bool) { return []byte{0}, true },
	"binary":     func(v ...seen) ([]byte, bool) { return v[0].text, true },
	"binary_md5": func(v ...seen) ([]byte, bool) { h := md5.Sum(v[0].text); return h[:], true },
	"xxhash":     func(v ...seen) ([]byte, bool) { return binary.LittleEndian.AppendUint64(nil, xxh64(v[0].text)), true },
	"numeric":    ofNumber(func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }),
	"reverse_bits": ofNumber(func(n uint64) []byte {
		return binary.BigEndian.AppendUint64(nil, bits.Reverse64(n))
	}),
	"hash": func(v ...seen) ([]byte, bool) {
		if n, err := strconv.ParseInt(v[0].String(), 10, 64); err == nil && v[0].signed {
			return desOf(uint64(n)), true
		}
		return ofNumber(desOf)(v...)
	},
	"numeric_static_map": ofNumber(func(n uint64) []byte {
		if to, mapped := naiveMap[n]; mapped {
			n = to
		}
		return binary.BigEndian.AppendUint64(nil, n)
	}),
	"cfc": func(v ...seen) ([]byte, bool) {
		b := v[0].text
		if len(b) < 3 {
			return nil, false
		}
		var id []byte
		for _, part := range [][]byte{b[:1], b[1:3], b[3:]} {
			h := binary.LittleEndian.AppendUint64(nil, xxh64(part))
			id = append(id, h[:min(8, len(part))]...)
		}
		return id, true
	},
}

// ofNumber is a vindex of integers that are not negative.
func ofNumber(f func(uint64) []byte) naive {
	return func(v ...seen) ([]byte, bool) {
		if v[0].text == nil {
			return nil, false
		}
		text := strings.Trim(v[0].String(), " \t")
		n, ok := new(big.Int).SetString(text, 10)
		if !ok || strings.ContainsAny(text, "+-_") || !n.IsUint64() {
			return nil, false
		}
		return f(n.Uint64()), true
	}
}

func desOf(n uint64) []byte {
	block, err := des.NewCipher(make([]byte, 8))
	if err != nil {
		panic(err)
	}
	id := binary.BigEndian.AppendUint64(nil, n)
	block.Encrypt(id, id)
	return id
}

// naiveMulticol joins the first widths[i] bytes of each part's id, filled up with zeros but for the last.
func naiveMulticol(parts []string, widths []int) naive {
	return func(v ...seen) ([]byte, bool) {
		var id []byte
		for i, part := range parts {
			one, ok := naives[part](v[i])
			if !ok {
				return nil, false
			}
			one = one[:min(len(one), widths[i])]
			if i < len(parts)-1 {
				one = append(bytes.Clone(one), make([]byte, widths[i]-len(one))...)
			}
			id = append(id, one...)
		}
		return id, true
	}
}

// naiveRegion is region_experimental of some bytes: columns region, id.
func naiveRegion(width int) naive {
	return func(v ...seen) ([]byte, bool) {
		region, ok := naives["numeric"](v[0])
		if !ok {
			return nil, false
		}
		id, ok := ofNumber(desOf)(v[1])
		return append(region[8-width:], id...), ok
	}
}

// naiveCountry is region_json of some bytes: columns id, country.
func naiveCountry(width int, regions map[string]uint64) naive {
	return func(v ...seen) ([]byte, bool) {
		region, known := regions[v[1].String()]
		if !known {
			return nil, false
		}
		return naiveRegion(width)(seen{text: []byte(strconv.FormatUint(region, 10))}, v[0])
	}
}

// xxh64 is XXH64 with the seed 0, written down from its specification.
func xxh64(b []byte) uint64 {
	const p1, p2, p3, p4, p5 uint64 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*p2, 31) * p1 }
	le := binary.LittleEndian
	zero, n := uint64(0), uint64(len(b))
	h := p5
	if len(b) >= 32 {
		acc := [4]uint64{zero + p1 + p2, p2, 0, zero - p1}
		for ; len(b) >= 32; b = b[32:] {
			for i := range acc {
				acc[i] = round(acc[i], le.Uint64(b[8*i:]))
			}
		}
		h = 0
		for i, turn := range []int{1, 7, 12, 18} {
			h += bits.RotateLeft64(acc[i], turn)
		}
		for _, a := range acc {
			h = (h^round(0, a))*p1 + p4
		}
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, le.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(le.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*p5, 11) * p1
	}
	h = (h ^ h>>33) * p2
	h = (h ^ h>>29) * p3
	return h ^ h>>32
}
