package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/replication"
)

// query sends a statement and reads the heads of its result; width is the number of columns it must have.
func (c *conn) query(sql []byte, width int) error {
	c.broken = true
	if len(sql)+1 >= maxPayload {
		return fmt.Errorf("statement of %d bytes", len(sql))
	}
	n := len(sql) + 1
	packet := make([]byte, 0, n+4)
	packet = append(packet, byte(n), byte(n>>8), byte(n>>16), 0, gomysql.COM_QUERY)
	packet = append(packet, sql...)
	if _, err := c.client.Conn.Conn.Write(packet); err != nil {
		return err
	}
	c.seq = 1
	head, err := c.packet(nil)
	if err != nil {
		return err
	}
	h := cursor{b: head}
	if n := h.length(); h.bad || n != uint64(width) {
		return fmt.Errorf("%w: result of %d columns, want %d", errProtocol, n, width)
	}
	for range width {
		if head, err = c.packet(head[:0]); err != nil {
			return err
		}
	}
	// Servers that do not know better send an EOF packet here.
	peek, err := c.br.Peek(5)
	if err != nil {
		return err
	}
	if peek[0] == 5 && peek[1] == 0 && peek[2] == 0 && peek[4] == gomysql.EOF_HEADER {
		_, err = c.packet(head[:0])
	}
	return err
}

var errProtocol = errors.New("unexpected packet")

// packet appends the payload of the next packet to dst. An ERR packet becomes an error; the connection is fine after it, unless
// the server has sent it before it was asked, as the reason why it closes the connection (such as wait_timeout).
func (c *conn) packet(dst []byte) ([]byte, error) {
	if out, ok := c.buffered(dst); ok {
		return out, nil
	}
	start, farewell := len(dst), false
	for {
		var head [4]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return dst, err
		}
		if farewell = c.seq == 1 && head[3] == 0; head[3] != c.seq && !farewell {
			return dst, fmt.Errorf("%w: sequence %d, want %d", errProtocol, head[3], c.seq)
		}
		c.seq++
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		at := len(dst)
		dst = grow(dst, n)
		if _, err := io.ReadFull(c.br, dst[at:]); err != nil {
			return dst, err
		}
		if n < maxPayload || farewell {
			break
		}
	}
	switch p := dst[start:]; {
	case len(p) > 0 && p[0] == gomysql.ERR_HEADER:
		c.broken = farewell
		return dst[:start], serverError(p)
	case farewell:
		return dst[:start], fmt.Errorf("%w: sequence 0, want 1", errProtocol)
	}
	return dst, nil
}

// buffered is packet for the usual case: all of the packet is in the buffer, and it is the next of a result and no error.
func (c *conn) buffered(dst []byte) ([]byte, bool) {
	have := c.br.Buffered()
	if have <= packetHead {
		return dst, false
	}
	p, _ := c.br.Peek(have) // no more than is there
	end := packetHead + (int(p[0]) | int(p[1])<<8 | int(p[2])<<16)
	if have < end || end == packetHead || p[3] != c.seq || p[packetHead] == gomysql.ERR_HEADER {
		return dst, false
	}
	c.seq++
	dst = append(dst, p[packetHead:end]...)
	_, _ = c.br.Discard(end)
	return dst, true
}

// packetHead is the length of a packet's head.
const packetHead = 4

// grow makes dst n bytes longer.
func grow(dst []byte, n int) []byte {
	if have := cap(dst) - len(dst); have < n {
		bigger := make([]byte, len(dst), max(cap(dst)+cap(dst)/2, len(dst)+n+512))
		copy(bigger, dst)
		dst = bigger
	}
	return dst[:len(dst)+n]
}

// serverError reads an ERR packet.
func serverError(p []byte) error {
	c := cursor{b: p[1:]}
	e := &gomysql.MyError{Code: uint16(c.uint(2))}
	if len(c.b) > 0 && c.b[0] == '#' {
		if state := c.take(6); len(state) == 6 {
			e.State = string(state[1:])
		}
	}
	e.Message = string(c.b)
	return e
}

// next appends the next row to dst, whose bytes are the row's canonical packing as far as the server knows it; ok is
// false at the end of the result.
func (c *conn) next(dst []byte) (row []byte, ok bool, err error) {
	start := len(dst)
	if dst, err = c.packet(dst); err != nil {
		return dst, false, err
	}
	if p := dst[start:]; len(p) > 0 && p[0] == gomysql.EOF_HEADER && len(p) < maxPayload {
		c.broken = false
		return dst[:start], false, nil
	}
	return dst, true, nil
}

// row runs a query that must give one row, and returns its values.
func (c *conn) row(ctx context.Context, query string, width int) ([][]byte, error) {
	stop := c.watch(ctx)
	defer stop()
	if err := c.query([]byte(query), width); err != nil {
		return nil, fmt.Errorf("%.100s: %w", query, err)
	}
	packed, ok, err := c.next(nil)
	if err != nil {
		return nil, fmt.Errorf("%.100s: %w", query, err)
	}
	if !ok {
		return nil, fmt.Errorf("%.100s: %w", query, errNoRow)
	}
	for more := true; more; {
		if _, more, err = c.next(nil); err != nil {
			return nil, fmt.Errorf("%.100s: %w", query, err)
		}
	}
	return replication.Row(packed).Values(nil, width)
}

var errNoRow = errors.New("no row")
