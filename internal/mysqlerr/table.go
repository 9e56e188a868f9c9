package mysqlerr

import (
	"slices"
	"strings"
)

// A kind says where an error number is transient.
type kind struct {
	sides Side
	// only restricts a number that servers use for several things to some of its texts, in lower case; nil is all.
	only func(text string) bool
}

var (
	both   = kind{sides: Source | Target}
	source = kind{sides: Source}
	target = kind{sides: Target}
	// readOnly is ER_OPTION_PREVENTS_STATEMENT for the option that a failover sets and takes back; for the others, such as
	// --skip-grant-tables and --secure-file-priv, the server would have to be started anew.
	readOnly = kind{Target, func(text string) bool {
		return strings.Contains(text, "read-only") || strings.Contains(text, "read_only")
	}}
	// system are errors of the server's operating system: transient where something has run out.
	system = kind{Source | Target, ranOut}
	// galera is how a node of a MariaDB or Percona cluster says that it has not joined.
	galera = kind{Source | Target, func(text string) bool { return strings.Contains(text, "wsrep") }}
)

// ranOut reads the operating system's error number out of a server's text, as in "(errno: 28 - No space left on device)"
// or "Got error 28": no more processes, memory, files or space.
func ranOut(text string) bool {
	for _, word := range []string{"errno: ", "errno ", "errcode: ", "got error "} {
		if _, rest, ok := strings.Cut(text, word); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(rest)
			}
			return slices.Contains([]string{"11", "12", "23", "24", "28", "122"}, rest[:end])
		}
	}
	return false
}

// transient says which server errors go away, and on which side that is known. All others need a person, or
// different input. The numbers are those of MySQL 8.0 to 9.7 and MariaDB 10.6 to 11.8, and of proxies that speak for them.
var transient = map[uint16]kind{
	// The server stops, starts, or can't take one more connection.
	1040: both,   // ER_CON_COUNT_ERROR: too many connections
	1042: both,   // ER_BAD_HOST_ERROR: the server can't look up the client's name
	1043: both,   // ER_HANDSHAKE_ERROR: what a cut link looks like to the server
	1047: galera, // ER_UNKNOWN_COM_ERROR: WSREP has not yet prepared node for application use
	1053: both,   // ER_SERVER_SHUTDOWN
	1077: both,   // ER_NORMAL_SHUTDOWN
	1078: both,   // ER_GOT_SIGNAL
	1079: both,   // ER_SHUTDOWN_COMPLETE
	1080: both,   // ER_FORCING_CLOSE
	1129: both,   // ER_HOST_IS_BLOCKED: after many cut links, until somebody unblocks it
	1135: both,   // ER_CANT_CREATE_THREAD
	1203: both,   // ER_TOO_MANY_USER_CONNECTIONS
	1226: both,   // ER_USER_LIMIT_REACHED: queries, updates or connections per hour
	3032: both,   // ER_SERVER_OFFLINE_MODE
	3168: both,   // ER_SERVER_ISNT_AVAILABLE
	4081: both,   // ER_GLOBAL_CONN_LIMIT: memory of all connections
	4082: both,   // ER_CONN_LIMIT: memory of this one

	// The connection, or what it did, was ended by somebody or by a timeout.
	1152: both, // ER_ABORTING_CONNECTION
	1154: both, // ER_NET_READ_ERROR_FROM_PIPE
	1155: both, // ER_NET_FCNTL_ERROR
	1156: both, // ER_NET_PACKETS_OUT_OF_ORDER
	1157: both, // ER_NET_UNCOMPRESS_ERROR
	1158: both, // ER_NET_READ_ERROR
	1159: both, // ER_NET_READ_INTERRUPTED: timeout
	1160: both, // ER_NET_ERROR_ON_WRITE
	1161: both, // ER_NET_WRITE_INTERRUPTED: timeout
	1184: both, // ER_NEW_ABORTING_CONNECTION
	1317: both, // ER_QUERY_INTERRUPTED: KILL QUERY
	1927: both, // MariaDB's ER_CONNECTION_KILLED
	1969: both, // MariaDB's ER_STATEMENT_TIMEOUT
	2002: both, // CR_CONNECTION_ERROR, and other numbers of the C client that proxies pass on
	2003: both, // CR_CONN_HOST_ERROR
	2005: both, // CR_UNKNOWN_HOST
	2006: both, // CR_SERVER_GONE_ERROR
	2012: both, // CR_SERVER_HANDSHAKE_ERR
	2013: both, // CR_SERVER_LOST
	2027: both, // CR_MALFORMED_PACKET
	2055: both, // CR_SERVER_LOST_EXTENDED
	3024: both, // ER_QUERY_TIMEOUT: max_execution_time
	3169: both, // ER_SESSION_WAS_KILLED
	4031: both, // ER_CLIENT_INTERACTION_TIMEOUT

	// Locks, and transactions that the server gave up for another one. See also LockWait.
	1020: both,   // ER_CHECKREAD: MariaDB with innodb_snapshot_isolation
	1180: target, // ER_ERROR_DURING_COMMIT
	1181: target, // ER_ERROR_DURING_ROLLBACK
	1205: both,   // ER_LOCK_WAIT_TIMEOUT
	1206: both,   // ER_LOCK_TABLE_FULL
	1213: both,   // ER_LOCK_DEADLOCK; also a conflict that a cluster found at the commit
	1412: source, // ER_TABLE_DEF_CHANGED: since the read view was opened
	1613: both,   // ER_XA_RBTIMEOUT
	1614: both,   // ER_XA_RBDEADLOCK
	1615: both,   // ER_NEED_REPREPARE
	1637: both,   // ER_TOO_MANY_CONCURRENT_TRXS: no undo slot
	3100: target, // ER_RUN_HOOK_ERROR: semi-sync or group replication at the commit
	3101: target, // ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication
	3572: both,   // ER_LOCK_NOWAIT
	3781: target, // ER_GR_HOLD_WAIT_TIMEOUT: a new primary of the group still works off what it has received
	3782: target, // ER_GR_HOLD_KILLED
	3783: target, // ER_GR_HOLD_MEMBER_STATUS_ERROR

	// The target is no primary for the moment. On a source nothing is written.
	1290: readOnly, // ER_OPTION_PREVENTS_STATEMENT: --read-only, --super-read-only
	1792: target,   // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: transaction_read_only is on
	1836: target,   // ER_READ_ONLY_MODE
	1874: target,   // ER_INNODB_READ_ONLY

	// Space, memory, files. A source needs some too: for sorting and temporary tables.
	1003: system, // ER_ERROR_ON_CLOSE of a file
	1004: system, // ER_CANT_CREATE_FILE
	1005: system, // ER_CANT_CREATE_TABLE
	1016: system, // ER_CANT_OPEN_FILE
	1021: both,   // ER_DISK_FULL
	1024: system, // ER_ERROR_ON_READ of a file
	1025: system, // ER_ERROR_ON_RENAME
	1026: system, // ER_ERROR_ON_WRITE of a file
	1030: system, // ER_GET_ERRNO: "Got error 28 - 'No space left on device' from storage engine"
	1037: both,   // ER_OUTOFMEMORY
	1038: both,   // ER_OUT_OF_SORTMEMORY
	1041: both,   // ER_OUT_OF_RESOURCES
	1114: both,   // ER_RECORD_FILE_FULL: InnoDB's word for a full disk or tablespace
	1196: target, // ER_WARNING_NOT_COMPLETE_ROLLBACK
	1197: target, // ER_TRANS_CACHE_FULL: max_binlog_cache_size, which can be raised while the server runs
	1878: both,   // ER_TEMP_FILE_WRITE_FAILURE
	3019: both,   // ER_INNODB_UNDO_LOG_FULL
	3675: both,   // ER_DISK_FULL_NOWAIT

	// Whatever else a server or a proxy says of itself. The time for which an error is tried again is bounded.
	1105: both,   // ER_UNKNOWN_ERROR
	1429: both,   // ER_CONNECT_TO_FOREIGN_DATA_SOURCE
	1815: both,   // ER_INTERNAL_ERROR
	2026: both,   // CR_SSL_CONNECTION_ERROR of a proxy's own link
	4052: source, // MariaDB: another reader has this server id; the next connection takes another
}
