package source

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/packet"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// packets frames payloads, numbered from 1 on.
func packets(payloads ...string) []byte {
	var b []byte
	seq := byte(1)
	for _, p := range payloads {
		for {
			n := min(len(p), maxPayload)
			b = append(append(b, byte(n), byte(n>>8), byte(n>>16), seq), p[:n]...)
			seq++
			if p = p[n:]; n < maxPayload {
				break
			}
		}
	}
	return b
}

// answer runs a query against a server that answers with the bytes, and returns the rows.
func answer(t *testing.T, width int, raw []byte) (rows []string, c *conn, err error) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	go func() { _, _ = io.Copy(io.Discard, there) }()
	c = &conn{client: &client.Conn{Conn: &packet.Conn{Conn: here}}, br: bufio.NewReader(bytes.NewReader(raw))}
	if err := c.query([]byte("SELECT 1"), width); err != nil {
		return nil, c, err
	}
	for {
		row, ok, err := c.next(nil)
		if err != nil || !ok {
			return rows, c, err
		}
		rows = append(rows, string(row))
	}
}

func TestResults(t *testing.T) {
	const okEnd, eof = "\xfe\x00\x00\x02\x00\x00\x00", "\xfe\x00\x00\x02\x00"
	big := strings.Repeat("x", maxPayload+5)
	exact := strings.Repeat("y", maxPayload)
	for _, tc := range []struct {
		name   string
		raw    []byte
		rows   []string
		err    error
		code   uint16
		broken bool
	}{
		{"rows", packets("\x01", "column", "\x01a", "\xfb", okEnd), []string{"\x01a", "\xfb"}, nil, 0, false},
		{"no rows", packets("\x01", "column", okEnd), nil, nil, 0, false},
		{"with EOF packets", packets("\x01", "column", eof, "\x01a", eof), []string{"\x01a"}, nil, 0, false},
		{"no rows, with EOF packets", packets("\x01", "column", eof, eof), nil, nil, 0, false},
		{"rows of several packets", packets("\x01", "column", big, exact, okEnd), []string{big, exact}, nil, 0, false},
		{"an error at once", packets("\xff\x48\x04#HY000no tables used"), nil, nil, 1096, false},
		{"an error between rows", packets("\x01", "column", "\x01a", "\xff\x25\x05#70100query was interrupted"), []string{"\x01a"}, nil, 1317, false},
		{"why the server has closed the connection", []byte("\x0c\x00\x00\x00\xff\xbf\x0f#HY000bye"), nil, nil, 4031, true},
		{"other columns", packets("\x02", "a", "b", okEnd), nil, errProtocol, 0, true},
		{"no result", packets("\x00\x00\x00"), nil, errProtocol, 0, true},
		{"cut", packets("\x01", "column", "\x01a"), []string{"\x01a"}, io.EOF, 0, true},
		{"cut in a packet", packets("\x01", "column", "\x01abc")[:22], nil, io.ErrUnexpectedEOF, 0, true},
		{"out of order", append(packets("\x01", "column"), 1, 0, 0, 9, 'x', 0, 0), nil, errProtocol, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, c, err := answer(t, 1, tc.raw)
			if len(rows) != len(tc.rows) {
				t.Errorf("%d rows, want %d", len(rows), len(tc.rows))
			}
			for i := range min(len(rows), len(tc.rows)) {
				if rows[i] != tc.rows[i] {
					t.Errorf("row %d has %d bytes, want %d", i, len(rows[i]), len(tc.rows[i]))
				}
			}
			code, _ := mysqlerr.Code(err)
			if tc.err != nil && !errors.Is(err, tc.err) || code != tc.code || (err == nil) != (tc.err == nil && tc.code == 0) {
				t.Errorf("error is %v", err)
			}
			if c.broken != tc.broken {
				t.Errorf("the connection is broken: %v", c.broken)
			}
		})
	}
}
