package vindex

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"
)

// A weigher turns text into its primary collation weights.
//
// golang.org/x/text/collate has the tables that Vitess froze a copy of (CLDR 23, Unicode 6.2), so weights agree. Its
// normalization tables are those of the Go release: Unicode 15, as in Vitess's copy, up to Go 1.26. With a later one,
// text may get another id if a combining mark that is newer than Unicode 15 stands between two characters that have
// one weight together. No other text does.
type weigher struct {
	collator *collate.Collator
	buffer   collate.Buffer
}

var weighers = sync.Pool{New: func() any {
	return &weigher{collator: collate.New(language.Und, collate.Loose)}
}}

// maxPooled is the size in bytes of the largest text whose weigher is used again; it keeps the weights, eight
// bytes and more for each character.
const maxPooled = 64 << 10

// loose appends hash(weights of v). Letters that differ in case or accents only have equal weights, and trailing
// spaces have none.
func loose(dst []byte, v Value, hash func(dst, b []byte) []byte) ([]byte, error) {
	b, err := v.text()
	if err != nil {
		return dst, err
	}
	if !utf8.Valid(b) {
		return dst, ErrNotUTF8
	}
	b = bytes.TrimRight(b, " ")
	w := weighers.Get().(*weigher)
	w.buffer.Reset()
	dst = hash(dst, w.collator.Key(&w.buffer, b))
	if len(b) <= maxPooled {
		weighers.Put(w)
	}
	return dst, nil
}

func looseMD5(dst []byte, v Value) ([]byte, error) { return loose(dst, v, appendMD5) }

func looseXXHash(dst []byte, v Value) ([]byte, error) { return loose(dst, v, appendXXHash) }
