package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// wire is an event as it comes over the network.
func wire(tp gobinlog.EventType, summed bool, body ...byte) []byte {
	size := gobinlog.EventHeaderSize + len(body)
	if summed {
		size += crc32.Size
	}
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = append(b, byte(tp))
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, 500)
	b = append(append(b, 0, 0), body...)
	if summed {
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	}
	return b
}

func wireGTID(n byte) []byte {
	return append(append([]byte{0}, sourceUUID[:]...), append([]byte{n, 0, 0, 0, 0, 0, 0, 0, 2}, make([]byte, 16)...)...)
}

func wireQuery(text string) []byte {
	return append(append(make([]byte, 8), 4, 0, 0, 0, 0, 's', 'h', 'o', 'p', 0), text...)
}

// wirePayload is a transaction in one event: BEGIN and XID.
func wirePayload(compression byte) []byte {
	inner := append(wire(gobinlog.QUERY_EVENT, false, wireQuery("BEGIN")...), wire(gobinlog.XID_EVENT, false, make([]byte, 8)...)...)
	if compression == payloadZstd {
		enc, err := zstd.NewWriter(nil)
		if err != nil {
			panic(err)
		}
		inner = enc.EncodeAll(inner, nil)
	}
	kind := []byte{2, 1, compression}
	if compression > 250 {
		kind = []byte{2, 3, 0xfc, compression, 0}
	}
	return slices.Concat([]byte{1, 1, byte(len(inner))}, kind, []byte{3, 3, 0xfc, 1, 1, 0}, inner)
}

// feedWire reads events as packets, to the first error.
func feedWire(a *assembler, packets ...[]byte) error {
	r := eventReader{assembler: a}
	defer r.close()
	for _, p := range packets {
		if err := r.event(bytes.NewReader(p)); err != nil {
			return err
		}
	}
	return nil
}

func TestEventsOnTheWire(t *testing.T) {
	gtid := wire(gobinlog.GTID_EVENT, true, wireGTID(7)...)
	begin, xid := wire(gobinlog.QUERY_EVENT, true, wireQuery("BEGIN")...), wire(gobinlog.XID_EVENT, true, make([]byte, 8)...)
	zipped := wire(gobinlog.TRANSACTION_PAYLOAD_EVENT, true, wirePayload(payloadZstd)...)
	flipped := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	for name, tc := range map[string]struct {
		packets [][]byte
		want    string
		err     error
	}{
		"plain":                                   {[][]byte{gtid, begin, xid}, "7", nil},
		"compressed":                              {[][]byte{gtid, zipped}, "7", nil},
		"not compressed after all":                {[][]byte{gtid, wire(gobinlog.TRANSACTION_PAYLOAD_EVENT, true, wirePayload(payloadPlain)...)}, "7", nil},
		"compressed in an unknown way":            {[][]byte{gtid, wire(gobinlog.TRANSACTION_PAYLOAD_EVENT, true, wirePayload(7)...)}, "", ErrUnknownEvent},
		"a changed bit":                           {[][]byte{gtid, flipped(begin, 25), xid}, "", ErrMalformedEvent},
		"a changed bit in the checksum":           {[][]byte{gtid, begin, flipped(xid, -1)}, "", ErrMalformedEvent},
		"a changed bit after all is decompressed": {[][]byte{gtid, flipped(zipped, -2)}, "", ErrMalformedEvent},
		"cut":                    {[][]byte{gtid, begin[:len(begin)-3]}, "", io.ErrUnexpectedEOF},
		"a huge one":             {[][]byte{append(bytes.Repeat([]byte{0xff}, gobinlog.EventHeaderSize), 1)}, "", ErrMalformedEvent},
		"a size below the head":  {[][]byte{make([]byte, gobinlog.EventHeaderSize)}, "", ErrMalformedEvent},
		"no room for a checksum": {[][]byte{wire(gobinlog.XID_EVENT, false)}, "", ErrMalformedEvent},
	} {
		s := newScript(t, "")
		s.a.checksum = true
		err := feedWire(s.a, tc.packets...)
		if !errors.Is(err, tc.err) || strings.Join(s.out, " ") != tc.want {
			t.Errorf("%s: %q, %v; want %q, %v", name, s.out, err, tc.want, tc.err)
		}
		if has := s.a.have.Text() != ""; has != (tc.want != "") {
			t.Errorf("%s: it stands at %q", name, s.a.have.Text())
		}
	}
}

// FuzzEvents feeds what a broken server may send: there may be errors and nothing else.
func FuzzEvents(f *testing.F) {
	for _, b := range [][]byte{
		wire(gobinlog.QUERY_EVENT, false, wireQuery("XA PREPARE")...), wire(gobinlog.TRANSACTION_PAYLOAD_EVENT, false, wirePayload(payloadZstd)...),
		wire(gobinlog.GTID_TAGGED_LOG_EVENT, false, 2, 10, 0, 0, 0), wire(gobinlog.FORMAT_DESCRIPTION_EVENT, false, 4, 0), wire(gobinlog.XA_PREPARE_LOG_EVENT, false, 0, 1),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScript(t, "")
		_ = feedWire(s.a, wire(gobinlog.GTID_EVENT, false, wireGTID(7)...), b)
	})
}
