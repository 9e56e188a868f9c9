package shardcheck

import (
	"bytes"
	"crypto/des"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Hash is the vindex hash of an integer in decimal: DES with a key of zeros, of the number's eight bytes.
func Hash(number []byte) ([]byte, error) {
	n, err := strconv.ParseUint(string(number), 10, 64)
	if strings.HasPrefix(string(number), "-") {
		var i int64
		i, err = strconv.ParseInt(string(number), 10, 64)
		n = uint64(i)
	}
	if err != nil {
		return nil, err
	}
	block, err := des.NewCipher(make([]byte, 8))
	if err != nil {
		return nil, err
	}
	id := binary.BigEndian.AppendUint64(nil, n)
	block.Encrypt(id, id)
	return id, nil
}

// MD5 is the vindex binary_md5 of bytes.
func MD5(b []byte) []byte {
	sum := md5.Sum(b)
	return sum[:]
}

// A keyRange is a shard's; no end is the end of all ids.
type keyRange struct{ start, end []byte }

// parseRange reads "-80", "40-80", "80-" or "-"; "0" is all.
func parseRange(name string) (keyRange, error) {
	lo, hi, ranged := strings.Cut(name, "-")
	if !ranged {
		return keyRange{}, nil
	}
	var k keyRange
	var err error
	if k.start, err = hex.DecodeString(lo); err != nil {
		return k, fmt.Errorf("shard %s: %w", name, err)
	}
	if hi == "" {
		return k, nil
	}
	if k.end, err = hex.DecodeString(hi); err != nil {
		return k, fmt.Errorf("shard %s: %w", name, err)
	}
	return k, nil
}

func (k keyRange) contains(id []byte) bool {
	return bytes.Compare(id, k.start) >= 0 && (len(k.end) == 0 || bytes.Compare(id, k.end) < 0)
}
