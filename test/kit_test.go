package test

import (
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// The kit itself leaves no goroutine behind; TestMain checks it.
func TestServersEnd(t *testing.T) {
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.MustQuery(t, "SELECT 1")
	s.Kill9()
	s.MustRestart(t)
	replicationtest.StartEtcd(t).MustRestart(t)
}
