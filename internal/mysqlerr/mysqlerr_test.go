package mysqlerr_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

func server(code uint16, text string) error {
	return fmt.Errorf("shard -80: %w", &mysql.MySQLError{Number: code, Message: text})
}

func TestTransient(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		err            error
		source, target bool
	}{
		{nil, false, false},
		{errors.New("something else"), false, false},
		{server(1213, ""), true, true},
		{fmt.Errorf("apply: %w", &gomysql.MyError{Code: 1213}), true, true},
		{server(1290, "--read-only"), false, true},
		{server(1236, "purged"), false, false},
		{server(1062, "dup"), false, false},
		{server(1045, "denied"), false, false},
		{server(1064, "syntax"), false, false},
		{fmt.Errorf("dial: %w", refused), true, true},
		{io.EOF, true, true},
		{fmt.Errorf("write: %w", gomysql.ErrBadConn), true, true},
		{driver.ErrBadConn, true, true},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, true, true},
		{context.Canceled, false, false},
		{fmt.Errorf("%w: %w", context.Canceled, io.EOF), false, false},
		{context.DeadlineExceeded, true, true},
	} {
		if got := mysqlerr.Transient(c.err, mysqlerr.Source); got != c.source {
			t.Errorf("Transient(%v, Source) is %v", c.err, got)
		}
		if got := mysqlerr.Transient(c.err, mysqlerr.Target); got != c.target {
			t.Errorf("Transient(%v, Target) is %v", c.err, got)
		}
	}
}

func TestClasses(t *testing.T) {
	for _, c := range []struct {
		name string
		is   func(error) bool
		yes  []uint16
		no   []uint16
	}{
		{"LockWait", mysqlerr.LockWait, []uint16{1205, 1213}, []uint16{1062, 0}},
		{"DuplicateKey", mysqlerr.DuplicateKey, []uint16{1062, 1586}, []uint16{1205, 1061}},
		{"AccessDenied", mysqlerr.AccessDenied, []uint16{1044, 1045, 1142, 1227}, []uint16{1062}},
		{"AlreadyDone", mysqlerr.AlreadyDone, []uint16{1050, 1051, 1060, 1061, 1091, 1146}, []uint16{1064, 1205}},
		{"NotFound", mysqlerr.NotFound, []uint16{1049, 1146}, []uint16{1064}},
	} {
		for _, code := range c.yes {
			if !c.is(server(code, "")) || !c.is(&gomysql.MyError{Code: code}) {
				t.Errorf("%s(%d) is false", c.name, code)
			}
		}
		for _, code := range c.no {
			if c.is(server(code, "")) {
				t.Errorf("%s(%d) is true", c.name, code)
			}
		}
		if c.is(nil) || c.is(io.EOF) {
			t.Errorf("%s is true for an error without a code", c.name)
		}
	}
}

func TestPositionGone(t *testing.T) {
	for text, want := range map[string]bool{
		"Cannot replicate because the source purged required binary logs. Replicate the missing transactions from elsewhere": true,
		"Could not find first log file name in binary log index file":                                                        true,
		"Error: connecting slave requested to start from GTID 0-1-5, which is not in the master's binlog":                    true,
		"Client requested source to start replication from position > file size":                                             true,
		"log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source":                                 false,
	} {
		if got := mysqlerr.PositionGone(server(1236, text)); got != want {
			t.Errorf("PositionGone(%q) is %v", text, got)
		}
	}
	if mysqlerr.PositionGone(server(1062, "purged")) || mysqlerr.PositionGone(io.EOF) {
		t.Error("another error counts as a purged position")
	}
}

func ExampleTransient() {
	err := fmt.Errorf("chunk of t: %w", &mysql.MySQLError{Number: 1213, Message: "Deadlock found"})
	fmt.Println(mysqlerr.Transient(err, mysqlerr.Target))
	// Output: true
}
