package vindex

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// zero is the vindex null: every row has the id 00.
func zero(dst []byte, _ Value) ([]byte, error) { return append(dst, 0), nil }

func identity(dst []byte, v Value) ([]byte, error) {
	b, err := v.text()
	return append(dst, b...), err
}

func md5Of(dst []byte, v Value) ([]byte, error) {
	b, err := v.text()
	if err != nil {
		return dst, err
	}
	return appendMD5(dst, b), nil
}

func xxHash(dst []byte, v Value) ([]byte, error) {
	b, err := v.text()
	if err != nil {
		return dst, err
	}
	return appendXXHash(dst, b), nil
}

func appendMD5(dst, b []byte) []byte {
	sum := md5.Sum(b)
	return append(dst, sum[:]...)
}

// appendXXHash appends the hash in the byte order of a little-endian machine, as Vitess does.
func appendXXHash(dst, b []byte) []byte {
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(b))
}

func bigEndian(dst []byte, v Value) ([]byte, error) {
	n, err := v.number()
	if err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint64(dst, n), nil
}

func reversed(dst []byte, v Value) ([]byte, error) {
	n, err := v.number()
	if err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint64(dst, bits.Reverse64(n)), nil
}

// nullKey is DES with a key of zeros. It spreads numbers; it hides nothing.
var nullKey = sync.OnceValues(func() (cipher.Block, error) { return des.NewCipher(make([]byte, des.BlockSize)) })

// newDES returns the function of the vindex hash.
func newDES() (hasher, error) {
	block, err := nullKey()
	if err != nil {
		return nil, &UnsupportedError{"hash", err.Error()}
	}
	return func(dst []byte, v Value) ([]byte, error) {
		n, err := v.signedNumber()
		if err != nil {
			return dst, err
		}
		dst = binary.BigEndian.AppendUint64(dst, n)
		b := dst[len(dst)-des.BlockSize:]
		block.Encrypt(b, b)
		return dst, nil
	}, nil
}
