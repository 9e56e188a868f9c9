package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
)

// batchHead is the room for packet header and command byte in front of a batch's text.
const batchHead = 5

// rollbackTimeout bounds what is done after the context has ended.
const rollbackTimeout = 5 * time.Second

var errProtocol = errors.New("unexpected packet from the server")

// session is how connections that write rows are set up. Values are stored as they come, and each one that the
// server changes is a warning. Locks are waited for shortly, since only the scheduler knows
// who waits for whose turn to commit. Foreign keys aren't checked: children may be copied before their parents.
var session = mysqlconn.Session{
	MultiStatements: true,
	LocalInfile:     true,
	Variables: map[string]string{
		"sql_mode":                 "'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
		"time_zone":                "'+00:00'",
		"foreign_key_checks":       "0",
		"unique_checks":            "1",
		"innodb_lock_wait_timeout": "1",
		"lock_wait_timeout":        "2",
		"sql_notes":                "1",
		"sql_safe_updates":         "0",
		"autocommit":               "1",
		"completion_type":          "'NO_CHAIN'",
		"wait_timeout":             "30", // see keepAlive
		"net_read_timeout":         "60",
		"net_write_timeout":        "60",
	},
}

// A conn is one connection for writing rows.
type conn struct {
	c *client.Conn
	// packet is where a result is read to, buf where statements are built.
	packet, buf []byte
	// infile is what the LOAD DATA LOCAL INFILE of the batch reads; nil if there is no such statement in it. data is where its
	// packets are built.
	infile *infile
	data   []byte
	used   time.Time
	// broken is set when the connection can't be used any more.
	broken bool
}

func dial(ctx context.Context, cfg mysqlconn.Config) (*conn, error) {
	c, err := mysqlconn.Dial(ctx, cfg, session)
	if err != nil {
		return nil, err
	}
	stop := mysqlconn.Watch(ctx, c.Conn.Conn)
	_, err = c.Execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &conn{c: c, used: time.Now()}, nil
}

func (c *conn) close() { _ = c.c.Close() }

// A result is the OK packet of one statement.
type result struct {
	rows     int64
	warnings int
}

// exec sends the statements in buf, which starts with batchHead bytes of room, and calls each for every result
// until a statement fails. The error is the server's if the server answered.
func (c *conn) exec(ctx context.Context, buf []byte, each func(i int, r result)) error {
	if c.broken {
		return fmt.Errorf("%w: used after it broke", gomysql.ErrBadConn)
	}
	stop := mysqlconn.Watch(ctx, c.c.Conn.Conn)
	err := c.talk(buf, each)
	var answer *gomysql.MyError
	if err != nil && !errors.As(err, &answer) {
		c.broken = true
	}
	if answer != nil && c.infile != nil {
		c.infile.answer = answer
	}
	if !stop() {
		c.broken = true
		if err != nil && answer == nil {
			err = context.Cause(ctx)
		}
	}
	c.used = time.Now()
	return err
}

func (c *conn) talk(buf []byte, each func(i int, r result)) error {
	c.c.ResetSequence()
	buf[batchHead-1] = gomysql.COM_QUERY
	if err := c.c.WritePacket(buf); err != nil {
		return err
	}
	for i := 0; ; i++ {
		p, err := c.c.ReadPacketReuseMem(c.packet[:0])
		if err != nil {
			return err
		}
		c.packet = p
		switch {
		case len(p) >= 9 && p[0] == gomysql.ERR_HEADER:
			return c.c.HandleErrorPacket(append([]byte(nil), p...))
		case len(p) > 0 && p[0] == gomysql.LocalInFile_HEADER:
			if err := c.sendInfile(string(p[1:])); err != nil {
				return err
			}
			i--
			continue
		case len(p) == 0 || p[0] != gomysql.OK_HEADER:
			return errProtocol
		}
		r, status, err := parseOK(p)
		if err != nil {
			return err
		}
		each(i, r)
		if status&gomysql.SERVER_MORE_RESULTS_EXISTS == 0 {
			return nil
		}
	}
}

// parseOK reads affected rows, status and warnings from an OK packet.
func parseOK(p []byte) (r result, status uint16, err error) {
	pos := 1
	var numbers [2]uint64
	for i := range numbers {
		n, _, used := lengthEncoded(p[min(pos, len(p)):])
		if used == 0 {
			return r, 0, errProtocol
		}
		numbers[i], pos = n, pos+used
	}
	if len(p) < pos+4 {
		return r, 0, errProtocol
	}
	r.rows = int64(numbers[0])
	status = binary.LittleEndian.Uint16(p[pos:])
	r.warnings = int(binary.LittleEndian.Uint16(p[pos+2:]))
	return r, status, nil
}

// lengthEncoded reads a length-encoded integer; used is 0 if it is cut.
func lengthEncoded(p []byte) (n uint64, null bool, used int) {
	if len(p) == 0 {
		return 0, false, 0
	}
	size := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[p[0]]
	if size == 0 {
		return uint64(p[0]), p[0] == 0xfb, 1
	}
	if len(p) < 1+size {
		return 0, false, 0
	}
	var b [8]byte
	copy(b[:], p[1:1+size])
	return binary.LittleEndian.Uint64(b[:]), false, 1 + size
}

// run executes one statement without result rows.
func (c *conn) run(ctx context.Context, statement string) (result, error) {
	var out result
	err := c.exec(ctx, append(make([]byte, batchHead, batchHead+len(statement)), statement...), func(_ int, r result) { out = r })
	return out, err
}

// query executes one statement with result rows, all of them text.
func (c *conn) query(ctx context.Context, statement string) ([][]string, error) {
	if c.broken {
		return nil, fmt.Errorf("%w: used after it broke", gomysql.ErrBadConn)
	}
	stop := mysqlconn.Watch(ctx, c.c.Conn.Conn)
	res, err := c.c.Execute(statement)
	var answer *gomysql.MyError
	if err != nil && !errors.As(err, &answer) {
		c.broken = true
	}
	if !stop() {
		c.broken, err = true, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer res.Close()
	var rows [][]string
	for i := range res.RowNumber() {
		row := make([]string, res.ColumnNumber())
		for j := range row {
			if row[j], err = res.GetString(i, j); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}
