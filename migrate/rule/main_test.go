package rule_test

import (
	"context"
	"os"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// shared is the server of all tests of the package that need one.
var shared *replicationtest.Server

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		_ = shared.Close()
	}
	os.Exit(code)
}

func server(t *testing.T) *replicationtest.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server")
	}
	if shared == nil {
		s, err := replicationtest.RunMySQL(context.Background(), replicationtest.MySQLOptions{})
		if err != nil {
			t.Fatal(err)
		}
		shared = s
	}
	return shared
}
