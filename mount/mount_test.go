package mount_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

var skip = mount.RegisterOptions{SkipChecks: true}

// newTopo returns an empty topology in memory.
func newTopo(t *testing.T) *topo.Server {
	t.Helper()
	ts, err := topo.Open(t.Context(), topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "memory", Server: "here", Root: "/vitess/global"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ts.Close(); err != nil {
			t.Error(err)
		}
	})
	return ts
}

func mysqlCluster(name string, hosts ...string) mount.Cluster {
	return mount.Cluster{Name: name, Type: mount.MySQL, Hosts: hosts}
}

func vitessCluster(name string) mount.Cluster {
	return mount.Cluster{Name: name, Type: mount.Vitess, Topo: topo.Address{Type: "memory", Server: "there", Root: "/vitess/global"}}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// as returns the error of a type that must be in err.
func as[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("want a %T, got %T: %v", e, err, err)
	}
	return e
}

// checkList tells whether the mounts are these.
func checkList(t *testing.T, ts *topo.Server, want ...string) {
	t.Helper()
	got, err := mount.List(t.Context(), ts)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("mounts: %q, %v; want %q", got, err, want)
	}
}

func TestRegisterShowUnregister(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	checkList(t, ts)
	my, vt := mysqlCluster("my", "db2:3306", "[::1]:3307"), vitessCluster("a-vitess_1")
	must(t, mount.Register(ctx, ts, my, skip), mount.Register(ctx, ts, vt, skip))
	checkList(t, ts, "a-vitess_1", "my")
	for _, want := range []mount.Cluster{my, vt} {
		got, err := mount.Show(ctx, ts, want.Name)
		if err != nil || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) || !slices.Equal(got.Hosts, want.Hosts) || got.Topo != want.Topo {
			t.Errorf("show %s: %+v, %v", want.Name, got, err)
		}
	}
	must(t, mount.Unregister(ctx, ts, "my", mount.UnregisterOptions{}))
	checkList(t, ts, "a-vitess_1")
	for _, err := range []error{
		mount.Unregister(ctx, ts, "my", mount.UnregisterOptions{}),
		second(mount.Show(ctx, ts, "my")),
		second(mount.Open(ctx, ts, "my", mount.OpenOptions{})),
	} {
		e := as[*mount.NotFoundError](t, err)
		if e.Kind != "mount" || e.Name != "my" || !slices.Equal(e.Known, []string{"a-vitess_1"}) || !errors.Is(err, mount.ErrNotFound) {
			t.Errorf("%+v", e)
		}
		if want := `mount "my" not found (known: a-vitess_1)`; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	must(t, mount.Unregister(ctx, ts, "a-vitess_1", mount.UnregisterOptions{}))
	if _, err := mount.Show(ctx, ts, "my"); err.Error() != `mount "my" not found (there is none)` {
		t.Error(err)
	}
	as[*topo.NameError](t, second(mount.Show(ctx, ts, "a/b")))
}

func second[T any](_ T, err error) error { return err }

// TestVitessRecord: the key and the bytes are those that Vitess writes for
// Mount register --name ext1 --topo-type etcd2 --topo-server localhost:12379 --topo-root /vitess/global.
func TestVitessRecord(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	c := mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: topo.Address{Type: "etcd2", Server: "localhost:12379", Root: "/vitess/global"}}
	must(t, mount.Register(ctx, ts, c, skip))
	got, _, err := ts.Conn().Get(ctx, "ExternalClusters/vitess/ext1")
	want := "\x0a\x28\x0a\x05etcd2\x12\x0flocalhost:12379\x1a\x0e/vitess/global"
	if err != nil || string(got) != want {
		t.Errorf("record: %q, %v\nwant    %q", got, err, want)
	}
}

func TestRegisterExisting(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	must(t, mount.Register(ctx, ts, mysqlCluster("ext1", "db1:3306"), skip))
	for _, c := range []mount.Cluster{mysqlCluster("ext1", "db2:3306"), vitessCluster("ext1")} {
		err := mount.Register(ctx, ts, c, mount.RegisterOptions{Credentials: mount.Static(mount.Login{User: "u"})}) // no server is asked
		e := as[*mount.ExistsError](t, err)
		if e.Name != "ext1" || e.Type != mount.MySQL || !errors.Is(err, mount.ErrExists) {
			t.Errorf("%+v", e)
		}
		if want := `mount "ext1" exists already, as a cluster of type mysql`; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if c, err := mount.Show(ctx, ts, "ext1"); err != nil || c.Type != mount.MySQL || c.Hosts[0] != "db1:3306" {
		t.Errorf("the first one is now %v, %v", c, err)
	}
}

// registerAtOnce registers different clusters of both types under one name, all at once: exactly one wins.
func registerAtOnce(t *testing.T, ts *topo.Server, name string) {
	t.Helper()
	var won, exists atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	const n = 8
	for i := range n {
		c := mysqlCluster(name, fmt.Sprintf("db%d:3306", i))
		if i%2 == 1 {
			c = vitessCluster(name)
		}
		g.Go(func() error {
			err := mount.Register(ctx, ts, c, skip)
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, mount.ErrExists):
				exists.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	must(t, g.Wait())
	if won.Load() != 1 || exists.Load() != n-1 {
		t.Errorf("%d won, %d were told that it exists", won.Load(), exists.Load())
	}
	checkList(t, ts, name)
}

func TestRegisterAtOnce(t *testing.T) { registerAtOnce(t, newTopo(t), "ext1") }

// TestBadClusters: every bad field is told at once, nothing is stored, and no server is asked.
func TestBadClusters(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	etcd := topo.Address{Type: "etcd2", Server: "e:2379", Root: "/vitess/global"}
	for _, tt := range []struct {
		c    mount.Cluster
		says []string // one per problem
	}{
		{mount.Cluster{}, []string{"cluster \"\"", "Type: it is neither"}},
		{mount.Cluster{Name: "ext.1", Type: "oracle"}, []string{`"ext.1"`, `"oracle"`}},
		{mount.Cluster{Name: "a/b", Type: mount.Vitess, Topo: etcd}, []string{"'/'"}},
		{mount.Cluster{Name: "ext1 ", Type: mount.Vitess, Topo: etcd}, []string{"' '"}},
		{mount.Cluster{Name: strings.Repeat("x", 65), Type: mount.Vitess, Topo: etcd}, []string{"64 bytes"}},
		{mount.Cluster{Name: "ext1", Type: mount.Vitess}, []string{"Topo.Type", "Topo.Root"}},
		{mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: topo.Address{Type: "etcd2"}}, []string{"Topo.Root", "Topo.Server"}},
		{mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: etcd, Hosts: []string{"db:1"}}, []string{"Hosts"}},
		{mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: topo.Address{Type: "etcd2", Server: "http://root:sesame@e:2379", Root: "/r"}}, []string{`"***@e:2379"`}},
		{mysqlCluster("ext1"), []string{"Hosts: there is none"}},
		{mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{"db:3306"}, Topo: etcd}, []string{"Topo"}},
		{mysqlCluster("ext1", "", "db", "db:", ":3306", "db:0", "db:65536", "db:x", "::1:3306", "d b:1", "db:3306", "db:3306", "root:sesame@db:3306"), []string{
			"Hosts: it is empty", `"db"`, `"db:"`, `":3306"`, `"db:0"`, `"db:65536"`, `"db:x"`, `"::1:3306"`, `"d b:1"`, "twice", `"***@db:3306"`,
		}},
	} {
		for _, opts := range []mount.RegisterOptions{skip, {Credentials: mount.Static(mount.Login{User: "u"})}} {
			err := mount.Register(ctx, ts, tt.c, opts)
			if err == nil {
				t.Errorf("%+v: registered", tt.c)
				continue
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.says) {
				t.Errorf("%+v: want %d problems, got\n%v", tt.c, len(tt.says), err)
			}
			for i, say := range tt.says {
				if i < len(lines) && !strings.Contains(lines[i], say) {
					t.Errorf("%+v: problem %d: %q does not say %q", tt.c, i, lines[i], say)
				}
			}
			_, badName := errors.AsType[*topo.NameError](err)
			_, badConfig := errors.AsType[*mount.ConfigError](err)
			if !badName && !badConfig || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%+v: %T %v", tt.c, err, err)
			}
		}
		if _, err := mount.OpenCluster(ctx, ts, tt.c, mount.OpenOptions{}); err == nil {
			t.Errorf("%+v: opened", tt.c)
		}
	}
	e := as[*mount.ConfigError](t, mount.Register(ctx, ts, mysqlCluster("ext1", "db:3306"), mount.RegisterOptions{}))
	if e.Field != "Credentials" {
		t.Errorf("without credentials: %+v", e)
	}
	e = as[*mount.ConfigError](t, second(mount.OpenCluster(ctx, ts, mysqlCluster("ext1", "db:3306"), mount.OpenOptions{})))
	if e.Field != "Credentials" {
		t.Errorf("without credentials: %+v", e)
	}
	checkList(t, ts)
}

func TestUnregisterInUse(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	must(t, mount.Register(ctx, ts, mysqlCluster("ext1", "db1:3306"), skip))
	var asked []string
	workflows, usedErr := []string{"commerce.wf", "shop.b"}, error(nil)
	opts := mount.UnregisterOptions{UsedBy: func(_ context.Context, name string) ([]string, error) {
		asked = append(asked, name)
		return workflows, usedErr
	}}
	e := as[*mount.InUseError](t, mount.Unregister(ctx, ts, "ext1", opts))
	if e.Name != "ext1" || !slices.Equal(e.Workflows, workflows) || !strings.Contains(e.Error(), "commerce.wf, shop.b") {
		t.Errorf("%+v: %v", e, e)
	}
	workflows, usedErr = nil, errors.New("target is down")
	if err := mount.Unregister(ctx, ts, "ext1", opts); !errors.Is(err, usedErr) || !strings.Contains(err.Error(), "ext1") {
		t.Errorf("nobody knows who uses it: %v", err)
	}
	checkList(t, ts, "ext1")
	usedErr = nil
	must(t, mount.Unregister(ctx, ts, "ext1", opts))
	checkList(t, ts)
	as[*mount.NotFoundError](t, mount.Unregister(ctx, ts, "ext1", opts))
	if !slices.Equal(asked, []string{"ext1", "ext1", "ext1"}) {
		t.Errorf("asked who uses %q", asked)
	}
}

func TestCredentialsFail(t *testing.T) {
	down := errors.New("vault is sealed")
	creds := func(context.Context, mount.Server) (mount.Login, error) { return mount.Login{}, down }
	err := mount.Register(t.Context(), newTopo(t), mysqlCluster("ext1", "127.0.0.1:1"), mount.RegisterOptions{Credentials: creds})
	if !errors.Is(err, down) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
	_, err = mount.OpenCluster(t.Context(), newTopo(t), mysqlCluster("ext1", "127.0.0.1:1"), mount.OpenOptions{Credentials: mount.Static(mount.Login{})})
	if e := as[*mount.ConfigError](t, err); e.Field != "Credentials" {
		t.Errorf("a login without a user: %v", err)
	}
}

func TestLoginHidesPassword(t *testing.T) {
	l := mount.Login{User: "mover", Password: "sesame"}
	data, err := json.Marshal(l)
	must(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("login", "login", l)
	shown := map[string]string{"json": string(data), "slog": logged.String(), "String": l.String(), "GoString": l.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		shown[verb] = fmt.Sprintf(verb, l)
		shown[verb+" inside"] = fmt.Sprintf(verb, []any{&l, struct{ L mount.Login }{l}})
	}
	for how, s := range shown {
		if strings.Contains(s, "sesame") || strings.Contains(s, "736573616d65") {
			t.Errorf("%s shows the password: %s", how, s)
		}
		if how != "%x inside" && !strings.Contains(s, "mover") {
			t.Errorf("%s does not show the user: %s", how, s)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	var known []string
	for i := range 25 {
		known = append(known, fmt.Sprint("k", i))
	}
	err := &mount.NotFoundError{Kind: "keyspace", Name: "x", Cluster: "ext1", Known: known}
	if s := err.Error(); !strings.HasPrefix(s, `keyspace "x" not found in mount "ext1" (known: k0, k1,`) || !strings.HasSuffix(s, "k19 and 5 more)") {
		t.Error(s)
	}
	cause := errors.New("two\nlines")
	check := &mount.CheckError{Cluster: "ext1", Findings: []mount.Finding{
		{Server: "db1:3306", Message: cause.Error(), Fix: "do something", Err: cause},
		{Object: "keyspace x", Message: "empty"},
	}}
	want := "cluster \"ext1\": 2 problems:\n  db1:3306: two; lines (fix: do something)\n  keyspace x: empty"
	if check.Error() != want || !errors.Is(check, cause) {
		t.Errorf("%q\nwant %q", check, want)
	}
	check.Findings = check.Findings[:1]
	if want := `cluster "ext1": db1:3306: two; lines (fix: do something)`; check.Error() != want {
		t.Errorf("%q\nwant %q", check, want)
	}
	data, jsonErr := json.Marshal(check.Findings)
	if want := `[{"server":"db1:3306","message":"two\nlines","fix":"do something"}]`; jsonErr != nil || string(data) != want {
		t.Errorf("%s, %v", data, jsonErr)
	}
}
