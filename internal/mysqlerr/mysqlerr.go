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
	both = Source | Target
)

// transient says which server errors go away by themselves, and on which side that is known. All others
// need a person, or different input.
var transient = map[uint16]Side{
	1021: both,   // disk full; the server waits for space
	1037: both,   // out of memory
	1038: both,   // out of sort memory
	1040: both,   // too many connections
	1041: both,   // out of resources
	1042: both,   // can't get the client's host name
	1043: both,   // bad handshake: a cut link
	1053: both,   // server shutdown
	1077: both,   // normal shutdown
	1078: both,   // got a signal
	1079: both,   // shutdown complete
	1080: both,   // forcing the close of a thread
	1105: both,   // unknown error, what proxies say for their own trouble
	1114: Target, // table is full: as the disk
	1129: both,   // host is blocked
	1135: both,   // can't create a thread
	1152: both,   // aborted connection
	1158: both,   // network: read
	1159: both,   // network: read timeout
	1160: both,   // network: write
	1161: both,   // network: write timeout
	1184: both,   // aborted connection
	1180: Target, // error during COMMIT
	1181: Target, // error during ROLLBACK
	1196: Target, // storage engine could not roll back
	1197: Target, // max_binlog_cache_size
	1203: both,   // too many user connections
	1205: both,   // lock wait timeout
	1206: both,   // lock table full
	1213: both,   // deadlock
	1226: both,   // a resource limit of the user
	1290: Target, // the server runs with --read-only: a failover goes on
	1317: both,   // query interrupted
	1412: Source, // table definition changed under a consistent read
	1429: both,   // can't connect to a foreign server
	1613: both,   // XA_RBTIMEOUT
	1614: both,   // XA_RBDEADLOCK
	1615: both,   // prepared statement needs to be re-prepared
	1792: Target, // read-only transaction
	1815: both,   // internal error
	1836: Target, // running in read-only mode
	1874: Target, // InnoDB is in read-only mode
	1878: Target, // temporary file write failure
	1927: both,   // MariaDB: connection was killed
	1969: both,   // MariaDB: max_statement_time
	2002: both,   // client: can't connect
	2003: both,
	2005: both,
	2006: both, // client: server has gone away
	2012: both,
	2013: both, // client: lost the connection
	2026: both,
	2027: both,
	3024: both,   // max_execution_time
	3032: both,   // server is offline for the moment
	3100: Target, // replication hook, as semi-sync and group replication
	3101: Target, // group replication rolled back
	3168: both,   // server isn't available
	3169: both,   // session was killed
	3572: both,   // NOWAIT lock
	4031: both,   // disconnected because of inactivity
	4052: Source, // MariaDB: another reader has this server id
}

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

// Transient tells whether the same attempt on a new connection may succeed later without anybody's doing.
// An error that isn't known is not transient, and neither is the end of the caller's own context
// (context.Canceled). A deadline is: callers look at their own context first.
func Transient(err error, side Side) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if code, ok := Code(err); ok {
		return transient[code]&side != 0
	}
	return Network(err)
}

// Network tells whether err is trouble of the link to a server, or of reaching it.
func Network(err error) bool {
	for _, known := range []error{
		driver.ErrBadConn, sql.ErrConnDone, mysql.ErrInvalidConn, gomysql.ErrBadConn, mysql.ErrPktSync, mysql.ErrMalformPkt,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, context.DeadlineExceeded,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ENOENT,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	// A wrong certificate does not become right.
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return false
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// LockWait tells whether err ended a statement because of somebody's row or table lock: a deadlock
// (the server has rolled the transaction back) or a wait that took too long (it has rolled the statement back, or
// all, as the server is set up; the caller rolls back in either case).
func LockWait(err error) bool {
	code, _ := Code(err)
	switch code {
	case 1205, 1213, 1614, 3572, 1020:
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
