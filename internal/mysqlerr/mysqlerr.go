package mysqlerr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"
)

// A Side is what a server is to a stream.
type Side uint8

// The two sides.
const (
	Source Side = 1 << iota
	Target
)

// Code returns the server's error number, and whether err holds one.
func Code(err error) (uint16, bool) {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number, true
	}
	if e, ok := errors.AsType[*gomysql.MyError](err); ok {
		return e.Code, true
	}
	return 0, false
}

// Message returns the server's error text, without number and state; "" if err does not come from a server.
func Message(err error) string {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Message
	}
	if e, ok := errors.AsType[*gomysql.MyError](err); ok {
		return e.Message
	}
	return ""
}

// Transient tells whether the same attempt on a new connection may succeed later without anybody's doing, or
// with what an operator does to the server anyway (a failover, more disk). The package comment says which are. An error that
// isn't known is not transient, and neither is the end of the caller's own context (context.Canceled). A deadline is: callers look at
// their own context first.
func Transient(err error, side Side) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	code, ok := Code(err)
	if !ok {
		return Network(err) || exhausted(err)
	}
	t, known := transient[code]
	return known && t.sides&side != 0 && (t.only == nil || t.only(strings.ToLower(Message(err))))
}

// Network tells whether err is trouble of the link to a server, or of reaching it: a connection that was cut, reset
// or refused, a timeout, a host name that can't be resolved just now. What TLS objects to (a certificate, a server
// without TLS) is none: it does not become right.
func Network(err error) bool {
	if tlsRefusal(err) {
		return false
	}
	for _, known := range []error{
		driver.ErrBadConn, sql.ErrConnDone, mysql.ErrInvalidConn, gomysql.ErrBadConn, mysql.ErrPktSync, mysql.ErrMalformPkt,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, context.DeadlineExceeded, os.ErrDeadlineExceeded,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ENETRESET, syscall.ENOBUFS,
		syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	if strings.Contains(err.Error(), farewell) {
		return true
	}
	if as[*net.OpError](err) || as[*net.DNSError](err) { // also a socket file that isn't there yet
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// farewell is what go-mysql says, without a type, of a packet that came before the statement was sent: in it a server tells why it has closed
// an idle connection (error 4031).
const farewell = "invalid sequence 0 != 1"

// tlsRefusal tells whether one of the two sides did not like the other's certificate or TLS at all.
func tlsRefusal(err error) bool {
	if errors.Is(err, mysql.ErrNoTLS) {
		return true
	}
	for _, is := range []func(error) bool{
		as[*tls.CertificateVerificationError], as[tls.RecordHeaderError], as[tls.AlertError], as[x509.UnknownAuthorityError],
		as[x509.HostnameError], as[x509.CertificateInvalidError], as[x509.SystemRootsError], as[x509.ConstraintViolationError],
	} {
		if is(err) {
			return true
		}
	}
	return false
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// exhausted tells whether this machine, not a server, has run out of something that comes back: disk, files, memory.
func exhausted(err error) bool {
	for _, known := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// LockWait tells whether err ended a statement because of somebody's row or table lock: a deadlock
// (the server has rolled the transaction back) or a wait that took too long (it has rolled the statement back, or
// all, as the server is set up; the caller rolls back in either case).
func LockWait(err error) bool {
	code, _ := Code(err)
	switch code {
	case 1020, 1205, 1213, 1614, 3572:
		return true
	}
	return false
}

// DuplicateKey tells whether a unique key refused a row.
func DuplicateKey(err error) bool {
	code, _ := Code(err)
	switch code {
	case 1022, 1062, 1169, 1586:
		return true
	}
	return false
}

// AccessDenied tells whether the server refused the user, or refused it a privilege.
func AccessDenied(err error) bool {
	code, _ := Code(err)
	switch code {
	case 1044, 1045, 1095, 1130, 1131, 1132, 1142, 1143, 1227, 1370, 1410, 1698, 1820, 1862, 3118, 3879, 4151:
		return true
	}
	return false
}

// AlreadyDone tells whether a schema change failed because what it makes is there, or what it removes
// or needs is gone: what a statement says when it runs for the second time.
func AlreadyDone(err error) bool {
	code, _ := Code(err)
	switch code {
	case 1007, 1008, // database exists, doesn't exist
		1050, 1051, 1146, // table exists, unknown table, no such table
		1054, 1060, 1061, 1068, // unknown column, duplicate column or key, several primary keys
		1072, 1091, // key column doesn't exist, can't drop
		1176,             // no such key
		1304, 1305, 1537, // routine or event exists, doesn't exist
		1347, 1359, 1360, // not a view, trigger exists, doesn't exist
		1517, 1826, 1828, // partition name, foreign key name
		3821, 3822, 3940: // check constraint not found, duplicate, constraint not found
		return true
	}
	return false
}

// NotFound tells whether a database or table is missing.
func NotFound(err error) bool {
	code, _ := Code(err)
	return code == 1049 || code == 1146 || code == 1051
}

// PositionGone tells whether a source said that it no longer has the log from the asked position on (or
// never had it): reading can't go on from there, on this server.
func PositionGone(err error) bool {
	code, ok := Code(err)
	if !ok {
		return false
	}
	if code == 1789 { // ER_MASTER_HAS_PURGED_REQUIRED_GTIDS
		return true
	}
	if code != 1236 {
		return false
	}
	text := strings.ToLower(Message(err))
	for _, part := range []string{
		"purged",                              // MySQL: "... purged binary logs containing GTIDs that the replica requires"
		"could not find first log file name",  // the file is gone
		"could not find gtid state requested", // MariaDB
		"requested to start from gtid",        // MariaDB: "... which is not in the master's binlog"
		"not in the master's binlog",
		"more gtids than the",           // "replica has more GTIDs than the source has, using the source's SERVER_UUID"
		"client requested master to st", // "... to start replication from impossible position" / "from position > file size"
		"client requested source to st",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
