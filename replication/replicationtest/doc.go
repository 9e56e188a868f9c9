// Package replicationtest is for tests and demos: it starts throwaway MySQL, MariaDB
// and etcd servers, breaks the links between them, writes while a test copies, and
// compares the tables at the end.
//
// Nouns:
//
//	Server   a mysqld or mariadbd of its own: own folder, port, UUID; root has no password
//	Etcd     an etcd of its own
//	Proxy    a TCP link that can be cut, slowed or frozen
//	Load     random inserts, updates, deletes and key changes on the tables of a database
//	Difference  what CompareTables found between two databases
//
// Picture of a test:
//
//	Load ──> Server (source) <── Proxy <── code under test ──> Server (target)
//	             └──────────────── CompareTables ──────────────────┘
//
// A test that takes a [testing.TB] has nothing to clean up: servers are killed and their
// folders removed at the end, whatever happened, and a failed test logs the end of every
// server's error log. A server also dies with the process that started it, even when that
// one is killed.
//
//	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
//	src.MustExec(t, "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v TEXT)")
//	link := replicationtest.StartProxy(t, src.Addr())
//	load := replicationtest.StartLoad(t, src.DB(t), "shop", replicationtest.LoadOptions{Seed: 1})
//	// ... copy from link.Addr(), link.Cut(), src.Kill9(), src.MustRestart(t) ...
//	load.MustStop(t)
//	replicationtest.CheckEqual(t, src.DB(t), dst.DB(t), "shop", "shop")
//
// Every Start function has a Run function below it that takes a context and returns an
// error; programs that aren't tests use those.
//
// The servers come from $MYSQLD, $MARIADBD and $ETCD, else from PATH, else from a cache
// that the command in the folder servers fills:
//
//	go run github.com/tablehaul/tablehaul/replication/replicationtest/servers fetch
package replicationtest
