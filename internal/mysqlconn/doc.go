// Package mysqlconn opens connections to MySQL and MariaDB servers.
//
// A [Config] says where and as whom; its password shows up in no print form and in no error. [Open]
// gives a *sql.DB that has been pinged, [Dial] one connection of the go-mysql client, for callers that
// need the wire protocol. Both set the session up the same way, as [Session] says. An error that means
// "nobody there" is an [UnreachableError], one that means "not you" an [AccessDeniedError]; both name
// address and user.
//
// No call waits for ever for a server that hangs, or a link that swallows what is sent: see Config.Silence and
// [HungError].
//
//	db, err := mysqlconn.Open(ctx, mysqlconn.Config{Addr: "10.0.0.5:3306", User: "move", Password: pw},
//		mysqlconn.Session{Names: "binary", Variables: map[string]string{"time_zone": "'+00:00'"}})
package mysqlconn
