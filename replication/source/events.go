package source

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"github.com/tablehaul/tablehaul/replication"
)

// maxEvent bounds one event: a row of the largest packet a server can have, before and after, and some.
const maxEvent = 1<<31 + 1<<20

// maxZstdWindow is the memory that a compressed transaction may ask for to be decompressed. The server's default
// level (3) asks for 2 MiB, the highest (22) for 128 MiB.
const maxZstdWindow = 128 << 20

// trustedEvent is the size up to which memory is taken before the event has come.
const trustedEvent = 64 << 20

// keepBuffer is the largest buffer for events that is kept for the next one.
const keepBuffer = 1 << 20

// An eventReader reads events from a stream of bytes, one at a time: none is held when the next is read, and a
// compressed transaction is decompressed as it is read.
type eventReader struct {
	assembler *assembler
	buf       []byte
	// zstd is made when it is first needed.
	zstd *zstd.Decoder
}

// close frees the decompressor.
func (r *eventReader) close() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

// event reads one event, which must be all that is left in the packet, and hands it to the assembler.
func (r *eventReader) event(packet io.Reader) error {
	h, err := r.header(packet)
	if err != nil {
		return err
	}
	return r.rest(packet, h)
}

// rest reads what follows the head of an event.
func (r *eventReader) rest(packet io.Reader, h *gobinlog.EventHeader) error {
	if h.EventType == gobinlog.TRANSACTION_PAYLOAD_EVENT {
		r.assembler.advance(h)
		return r.compressed(packet, h)
	}
	e, err := r.body(packet, h, false)
	if err != nil {
		return err
	}
	return r.assembler.HandleEvent(e)
}

// header reads the head of an event; io.EOF means that there is none.
func (r *eventReader) header(in io.Reader) (*gobinlog.EventHeader, error) {
	r.buf = append(r.buf[:0], make([]byte, gobinlog.EventHeaderSize)...)
	if _, err := io.ReadFull(in, r.buf); err != nil {
		return nil, err
	}
	h := &gobinlog.EventHeader{}
	if err := h.Decode(r.buf); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedEvent, err)
	}
	if h.EventSize > maxEvent {
		return nil, fmt.Errorf("%w: an event of %d bytes", ErrMalformedEvent, h.EventSize)
	}
	return h, nil
}

// body reads the rest of an event; what it returns is valid until the next call.
func (r *eventReader) body(in io.Reader, h *gobinlog.EventHeader, nested bool) (*gobinlog.BinlogEvent, error) {
	raw, err := r.fill(in, int(h.EventSize))
	if err != nil {
		return nil, err
	}
	e := &gobinlog.BinlogEvent{Header: h, RawData: raw}
	if r.assembler.summed(h.EventType, nested) {
		if len(raw) < gobinlog.EventHeaderSize+crc32.Size {
			return nil, fmt.Errorf("%w: type %d is cut", ErrMalformedEvent, h.EventType)
		}
		if at := len(raw) - crc32.Size; crc32.ChecksumIEEE(raw[:at]) != binary.LittleEndian.Uint32(raw[at:]) {
			return nil, fmt.Errorf("%w: checksum of type %d", ErrMalformedEvent, h.EventType)
		}
	}
	e.Event, err = decodeEvent(h.EventType, r.assembler.body(e, nested))
	return e, err
}

// fill reads into the buffer, which has the head, until it holds size bytes, which are what the head claims.
func (r *eventReader) fill(in io.Reader, size int) ([]byte, error) {
	raw := r.buf
	for len(raw) < size {
		have := len(raw)
		next := min(size, max(2*have, trustedEvent))
		if cap(raw) < next {
			raw = append(make([]byte, 0, max(next, 16<<10)), raw...)
		}
		raw = raw[:next]
		if _, err := io.ReadFull(in, raw[have:]); err != nil {
			return nil, unexpected(err)
		}
	}
	r.buf = raw
	if cap(raw) > keepBuffer {
		r.buf = nil // one huge event is no reason to hold its memory
	}
	return raw, nil
}

// unexpected makes an end of the data that comes within an event an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Fields in front of a compressed transaction.
const (
	payloadEnd              = 0
	payloadCompressionField = 2
	payloadZstd             = 0
	payloadPlain            = 255
)

// compressed reads a transaction that is one compressed event. What is in it counts only after its checksum is known.
func (r *eventReader) compressed(packet io.Reader, h *gobinlog.EventHeader) error {
	a := r.assembler
	if !a.summed(h.EventType, false) {
		return r.payload(packet)
	}
	sum := crc32.NewIEEE()
	sum.Write(r.buf)
	data := io.TeeReader(io.LimitReader(packet, int64(h.EventSize)-gobinlog.EventHeaderSize-crc32.Size), sum)
	var whole *replication.Transaction
	have, emit := a.have, a.emit
	a.emit = func(t *replication.Transaction) error {
		whole = t
		return nil
	}
	err := r.payload(data)
	a.emit = emit
	if err == nil {
		err = r.checkSum(packet, data, sum)
	}
	switch {
	case err == nil && whole != nil:
		return a.emit(whole)
	case err != nil && whole != nil:
		a.have = have
		if whole.Spill != nil {
			err = errors.Join(err, whole.Spill.Close())
		}
	}
	return err
}

// checkSum compares the sum of what is read through data with the one that follows it in the packet.
func (r *eventReader) checkSum(packet, data io.Reader, sum hash.Hash32) error {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return err
	}
	var want [crc32.Size]byte
	if _, err := io.ReadFull(packet, want[:]); err != nil {
		return unexpected(err)
	}
	if binary.LittleEndian.Uint32(want[:]) != sum.Sum32() {
		return fmt.Errorf("%w: checksum of a compressed transaction", ErrMalformedEvent)
	}
	return nil
}

// payload reads the events of a compressed transaction.
func (r *eventReader) payload(packet io.Reader) error {
	in := bufio.NewReaderSize(packet, 4<<10)
	compression, err := payloadCompression(in)
	if err != nil {
		return unexpected(err)
	}
	switch compression {
	case payloadPlain:
		return r.nested(in)
	case payloadZstd:
	default:
		return fmt.Errorf("%w: a transaction of compression type %d", ErrUnknownEvent, compression)
	}
	if r.zstd == nil {
		r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
	}
	if err := r.zstd.Reset(in); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedEvent, err)
	}
	return r.nested(bufio.NewReaderSize(r.zstd, 64<<10))
}

// payloadCompression reads the fields in front of the events: pairs of type and value, of which only one matters.
func payloadCompression(in *bufio.Reader) (uint64, error) {
	compression := uint64(payloadPlain)
	for {
		field, err := readLength(in)
		if err != nil || field == payloadEnd {
			return compression, err
		}
		size, err := readLength(in)
		if err != nil {
			return 0, err
		}
		value := make([]byte, min(size, 16))
		if _, err := io.ReadFull(in, value); err != nil {
			return 0, err
		}
		if size > 16 {
			return 0, fmt.Errorf("%w: a field of %d bytes before a compressed transaction", ErrMalformedEvent, size)
		}
		if field == payloadCompressionField {
			c := cursor{b: value}
			if compression = c.length(); c.bad {
				return 0, fmt.Errorf("%w: compression type", ErrMalformedEvent)
			}
		}
	}
}

// readLength reads a length-encoded number.
func readLength(in *bufio.Reader) (uint64, error) {
	first, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	n := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[first]
	if n == 0 {
		return uint64(first), nil
	}
	var b [8]byte
	if _, err := io.ReadFull(in, b[:n]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// nested reads events up to the end of the data.
func (r *eventReader) nested(in io.Reader) error {
	for {
		h, err := r.header(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := r.body(in, h, true)
		if err != nil {
			return err
		}
		if err := r.assembler.inGroup(e, true); err != nil {
			return err
		}
	}
}

// decodeEvent decodes what go-mysql knows and is looked at here; the rest stays a GenericEvent. Its decoders trust what
// they read.
func decodeEvent(tp gobinlog.EventType, body []byte) (e gobinlog.Event, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("%w: type %d: %v", ErrMalformedEvent, tp, r)
		}
	}()
	switch tp {
	case gobinlog.FORMAT_DESCRIPTION_EVENT:
		e = &gobinlog.FormatDescriptionEvent{}
	case gobinlog.ROTATE_EVENT:
		e = &gobinlog.RotateEvent{}
	case gobinlog.QUERY_EVENT:
		e = &gobinlog.QueryEvent{}
	case gobinlog.GTID_EVENT, gobinlog.ANONYMOUS_GTID_EVENT:
		e = &gobinlog.GTIDEvent{}
	case gobinlog.GTID_TAGGED_LOG_EVENT:
		e = &gobinlog.GtidTaggedLogEvent{}
	case gobinlog.HEARTBEAT_EVENT:
		e = &gobinlog.HeartbeatEvent{Version: 1}
	case gobinlog.HEARTBEAT_LOG_EVENT_V2:
		e = &gobinlog.HeartbeatEvent{Version: 2}
	case gobinlog.XID_EVENT:
		return &gobinlog.XIDEvent{}, nil
	case gobinlog.PREVIOUS_GTIDS_EVENT:
		return &gobinlog.PreviousGTIDsEvent{}, nil
	case gobinlog.EXECUTE_LOAD_QUERY_EVENT:
		return &gobinlog.ExecuteLoadQueryEvent{}, nil
	case gobinlog.TABLE_MAP_EVENT:
		return &gobinlog.TableMapEvent{}, nil
	case gobinlog.WRITE_ROWS_EVENTv1, gobinlog.UPDATE_ROWS_EVENTv1, gobinlog.DELETE_ROWS_EVENTv1,
		gobinlog.WRITE_ROWS_EVENTv2, gobinlog.UPDATE_ROWS_EVENTv2, gobinlog.DELETE_ROWS_EVENTv2, gobinlog.PARTIAL_UPDATE_ROWS_EVENT:
		return &gobinlog.RowsEvent{}, nil
	default:
		return &gobinlog.GenericEvent{}, nil
	}
	if err := e.Decode(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedEvent, err)
	}
	return e, nil
}
