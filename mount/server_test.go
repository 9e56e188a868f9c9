package mount

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

func TestReadOnly(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        topo.TabletType
	}{
		{"read_only", "OFF", topo.TabletPrimary},
		{"read_only", "0", topo.TabletPrimary},
		{"read_only", "", topo.TabletPrimary},
		{"read_only", "ON", topo.TabletReplica},
		{"read_only", "1", topo.TabletReplica},
		{"read_only", "NO_LOCK_NO_ADMIN", topo.TabletReplica}, // MariaDB 12
		{"super_read_only", "ON", topo.TabletReplica},
		{"innodb_read_only", "ON", topo.TabletReplica},
	} {
		s := &server{variables: map[string]string{tt.name: tt.value}}
		if got := s.tabletType(); got != tt.want {
			t.Errorf("%s=%s is %v, want %v", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestCheckKind(t *testing.T) {
	for version, want := range map[string]bool{
		"9.7.4": true, "10.11.18-MariaDB-log": true, "8.0.36-28 Percona": true,
		"8.0.11-TiDB-v7.5.1": false, "8.0.40-Vitess": false, "": false,
	} {
		s := &server{addr: "db1:3306", variables: map[string]string{"version": version}}
		f, ok := s.checkKind()
		if ok != want || !ok && (f.Server != "db1:3306" || f.Message == "" || f.Fix == "") {
			t.Errorf("version %q: %v, %v", version, ok, f)
		}
	}
}

func TestCheckRoles(t *testing.T) {
	primary := &server{addr: "db1:1"}
	other := &server{addr: "db2:1"}
	replica := &server{addr: "db3:1", variables: map[string]string{"read_only": "ON"}}
	for _, tt := range []struct {
		there    []*server
		complete bool
		want     string // of the only finding; none if empty
	}{
		{[]*server{primary, replica}, true, ""},
		{[]*server{primary}, true, ""},
		{[]*server{replica}, false, ""}, // the one that does not answer may be it
		{[]*server{replica}, true, "no server is the primary"},
		{[]*server{primary, other, replica}, false, "2 servers accept writes: db1:1, db2:1"},
	} {
		got := checkRoles(tt.there, tt.complete)
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].Message, tt.want)) {
			t.Errorf("%d servers: %v, want %q", len(tt.there), got, tt.want)
		}
	}
}

func TestCheckSame(t *testing.T) {
	at := func(addr, uuid string) *server {
		return &server{addr: addr, variables: map[string]string{"server_uuid": uuid}}
	}
	got := checkSame([]*server{at("a:1", "u1"), at("b:1", "u2"), at("c:1", "u1"), at("d:1", ""), at("e:1", "")})
	if len(got) != 1 || got[0].Server != "c:1" || !strings.Contains(got[0].Message, "a:1") {
		t.Errorf("%v", got)
	}
}

// TestServerErrorTime: the limit of this package is the server's fault, the caller's own is not.
func TestServerErrorTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
			defer cancel()
			<-ctx.Done()
			return serverError(ctx, "db1:1", "u", ctx.Err())
		}
		e, ok := errors.AsType[*UnreachableError](late(t.Context()))
		if !ok || e.Addr != "db1:1" || e.Error() != "server db1:1 unreachable: no answer within 5s" {
			t.Errorf("%v", e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := late(ctx)
		if _, ok := errors.AsType[*UnreachableError](err); ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's deadline: %v", err)
		}
	})
}
