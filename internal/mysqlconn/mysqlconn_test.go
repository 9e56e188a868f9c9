package mysqlconn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
)

const secret = "s3cr3t!"

func TestPasswordIsNeverPrinted(t *testing.T) {
	cfg := mysqlconn.Config{Addr: "db:3306", User: "move", Password: secret, Database: "load"}
	holder := struct{ C mysqlconn.Config }{cfg}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", cfg, &cfg, holder)
	}
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cfg", cfg, "ptr", &cfg, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cfg", cfg, "ptr", &cfg, "holder", holder)
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), fmt.Sprintf("%x", secret)) {
		t.Errorf("the password is in %s", out.String())
	}
	if !strings.Contains(out.String(), "move@db:3306/load") {
		t.Errorf("address and user are missing in %s", out.String())
	}
}

// closedAddr is an address at which nobody listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func connect(ctx context.Context, cfg mysqlconn.Config) map[string]error {
	_, openErr := mysqlconn.Open(ctx, cfg, mysqlconn.Session{})
	_, dialErr := mysqlconn.Dial(ctx, cfg, mysqlconn.Session{})
	return map[string]error{"Open": openErr, "Dial": dialErr}
}

func TestUnreachable(t *testing.T) {
	cfg := mysqlconn.Config{Addr: closedAddr(t), User: "move", Password: secret}
	for name, err := range connect(t.Context(), cfg) {
		unreachable, ok := errors.AsType[*mysqlconn.UnreachableError](err)
		if !ok || !errors.Is(err, mysqlconn.ErrUnreachable) {
			t.Errorf("%s: %v is no UnreachableError", name, err)
			continue
		}
		if unreachable.Addr != cfg.Addr || unreachable.User != "move" || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSilentServerTimesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := mysqlconn.Config{Addr: l.Addr().String(), User: "move", DialTimeout: 50 * time.Millisecond}
	if _, err := mysqlconn.Dial(t.Context(), cfg, mysqlconn.Session{}); !errors.Is(err, mysqlconn.ErrUnreachable) {
		t.Errorf("Dial of a server that says nothing: %v", err)
	}
	why := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, err := range connect(ctx, cfg) {
		if !errors.Is(err, why) {
			t.Errorf("%s on an ended context: %v", name, err)
		}
	}
}

func TestMissingFields(t *testing.T) {
	for name, err := range connect(t.Context(), mysqlconn.Config{}) {
		if err == nil || !strings.Contains(err.Error(), "no address") || !strings.Contains(err.Error(), "no user") {
			t.Errorf("%s: %v does not name both fields", name, err)
		}
	}
}

func TestSessionSet(t *testing.T) {
	s := mysqlconn.Session{Variables: map[string]string{"time_zone": "'+00:00'", "foreign_key_checks": "0"}}
	if got, want := s.Set(), "SET SESSION foreign_key_checks = 0, SESSION time_zone = '+00:00'"; got != want {
		t.Errorf("Set is %q, want %q", got, want)
	}
}

func ExampleConfig() {
	cfg := mysqlconn.Config{Addr: "10.0.0.5:3306", User: "move", Password: "hunter2"}
	fmt.Printf("%v %+v\n", cfg, &cfg)
	// Output: move@10.0.0.5:3306 move@10.0.0.5:3306
}
