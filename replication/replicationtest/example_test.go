package replicationtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A test of code that copies a database while it is written.
func ExampleStartMySQL() {
	_ = func(t *testing.T) {
		src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
		dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--max-connections=20"}})
		src.MustExec(t, "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
		dst.MustExec(t, "CREATE DATABASE shop")
		src.MustCreateUser(t, "copier", "secret", "SELECT ON shop.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")

		load := replicationtest.StartLoad(t, src.DB(t), "shop", replicationtest.LoadOptions{Seed: 42, Rate: 500})
		// ... start the copy from src.Addr() to dst.Addr(), let it run ...
		load.MustStop(t)
		// ... wait until the copy has caught up ...
		replicationtest.CheckEqual(t, src.DB(t), dst.DB(t), "shop", "shop")
	}
}

// A link that breaks in the middle of a packet and comes back.
func ExampleStartProxy() {
	_ = func(t *testing.T) {
		src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
		link := replicationtest.StartProxy(t, src.Addr())
		// ... have the code under test connect to link.Addr() ...
		link.CutAfter(10_000)
		// ... see it cope ...
		link.MustRestore(t)
		link.SetDelay(50 * time.Millisecond)
	}
}

// A demo program has no testing.TB; it closes what it runs.
func ExampleRunMySQL() {
	_ = func(ctx context.Context) error {
		s, err := replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{})
		if err != nil {
			return err // a missing server's error says in one line how to get it
		}
		defer s.Close()
		return s.Exec(ctx, "CREATE DATABASE shop")
	}
}

func ExampleDifference_String() {
	d := replicationtest.Difference{
		Table: "t", Kind: replicationtest.ChangedRow, Key: []string{"31"},
		Columns: []string{"v"}, Source: []string{"61"}, Dest: []string{"NULL"},
	}
	fmt.Println(d)
	// Output: t: changed row 31 v: 61 / NULL
}
