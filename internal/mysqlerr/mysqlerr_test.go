package mysqlerr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
		{server(1290, "The MySQL server is running with the --read-only option so it cannot execute this statement"), false, true},
		{server(1290, "The MySQL server is running with the --super-read-only option so it cannot execute this statement"), false, true},
		{server(1290, "The MariaDB server is running with the --read-only option so it cannot execute this statement"), false, true},
		{server(1290, "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement"), false, false},
		{server(1030, "Got error 28 - 'No space left on device' from storage engine"), true, true},
		{server(1030, "Got error 168 - 'Unknown (generic) error from engine' from storage engine"), false, false},
		{server(1026, "Error writing file '/tmp/MLAbc' (OS errno 28 - No space left on device)"), true, true},
		{server(1026, "Error writing file './binlog.000002' (Errcode: 28 \"No space left on device\")"), true, true},
		{server(1016, "Can't open file: './t.ibd' (errno: 24 - Too many open files)"), true, true},
		{server(1016, "Can't open file: './t.ibd' (errno: 2 - No such file or directory)"), false, false},
		{server(1047, "WSREP has not yet prepared node for application use"), true, true},
		{server(1047, "Unknown command"), false, false},
		{server(1412, "Table definition has changed, please retry transaction"), true, false},
		{server(1236, "purged"), false, false},
		{server(1062, "dup"), false, false},
		{server(1045, "denied"), false, false},
		{server(1064, "syntax"), false, false},
		{fmt.Errorf("dial: %w", refused), true, true},
		{io.EOF, true, true},
		{fmt.Errorf("write: %w", gomysql.ErrBadConn), true, true},
		{driver.ErrBadConn, true, true},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, true, true},
		{fmt.Errorf("read: %w", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), true, true},
		{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}, true, true},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true, true},
		{io.ErrUnexpectedEOF, true, true},
		{errors.New("invalid sequence 0 != 1"), true, true},
		{errors.New("invalid sequence 3 != 2"), false, false},
		{mysql.ErrInvalidConn, true, true},
		{&os.PathError{Op: "open", Path: "ca.pem", Err: syscall.ENOENT}, false, false},
		{&os.PathError{Op: "write", Path: "/tmp/spill", Err: syscall.ENOSPC}, true, true},
		{fmt.Errorf("dial: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), false, false},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(42)}, false, false},
		{x509.HostnameError{Host: "db", Certificate: &x509.Certificate{}}, false, false},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, false, false},
		{mysql.ErrNoTLS, false, false},
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

// Every number that the engine is known to meet is decided on, for both sides.
func TestTableIsComplete(t *testing.T) {
	again := map[string][]uint16{
		"both": {
			1021, 1037, 1038, 1040, 1041, 1042, 1043, 1053, 1077, 1078, 1079, 1080, 1105, 1114, 1129, 1135, 1152, 1158, 1159, 1160, 1161, 1184,
			1203, 1205, 1206, 1213, 1226, 1317, 1613, 1614, 1615, 1637, 1815, 1878, 1927, 1969, 2002, 2003, 2005, 2006, 2012, 2013, 2026, 2027,
			2055, 3019, 3024, 3032, 3168, 3169, 3572, 3675, 4031, 4081, 4082,
		},
		"source": {1412, 4052},
		"target": {1180, 1181, 1196, 1197, 1792, 1836, 1874, 3100, 3101, 3781, 3782, 3783},
		"none": {
			1044, 1045, 1049, 1048, 1054, 1062, 1064, 1072, 1091, 1118, 1130, 1136, 1142, 1143, 1146, 1149, 1153, 1169, 1227, 1236, 1242, 1264,
			1265, 1292, 1364, 1366, 1406, 1451, 1452, 1525, 1586, 1690, 1698, 1789, 1820, 1862, 3098, 3140, 3185, 3819, 3948,
		},
	}
	seen := map[uint16]string{}
	for sides, codes := range again {
		for _, code := range codes {
			if other, ok := seen[code]; ok {
				t.Fatalf("%d is listed for %s and %s", code, other, sides)
			}
			seen[code] = sides
			err := server(code, "")
			if got, want := mysqlerr.Transient(err, mysqlerr.Source), sides == "both" || sides == "source"; got != want {
				t.Errorf("Transient(%d, Source) is %v", code, got)
			}
			if got, want := mysqlerr.Transient(err, mysqlerr.Target), sides == "both" || sides == "target"; got != want {
				t.Errorf("Transient(%d, Target) is %v", code, got)
			}
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
