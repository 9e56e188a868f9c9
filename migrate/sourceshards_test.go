package migrate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// Of a sharded source, the named shards are moved; a reference table comes from one of them. When the source is resharded, the streams of the
// shard that serves no more stop and say so.
func TestSomeSourceShards(t *testing.T) {
	c := newCluster(t, migrate.Options{})
	ctx := t.Context()
	at := topo.Address{Type: "memory", Server: "ext", Root: "/ext"}
	ext, err := c.ts.OpenOther(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	defer ext.Close()
	vs, err := topo.ParseVSchema([]byte(`{"sharded": true, "vindexes": {"xxhash": {"type": "xxhash"}}, "tables": {
		"orders": {"column_vindexes": [{"column": "id", "name": "xxhash"}]}, "country": {"type": "reference"}}}`))
	for _, err := range []error{
		err,
		ext.CreateCell(ctx, topo.CellInfo{Name: "east", Root: "/east"}),
		ext.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}),
		ext.SaveVSchema(ctx, "load", vs),
		mount.Register(ctx, c.ts, mount.Cluster{Name: "vit", Type: mount.Vitess, Topo: at}, mount.RegisterOptions{SkipChecks: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	shards := []string{"-40", "40-80", "80-"}
	database := func(i int) string { return fmt.Sprintf("%s_%d", c.db, i) }
	for i, shard := range shards {
		c.src.MustExec(t, "CREATE DATABASE "+database(i)+"; USE "+database(i)+`; CREATE TABLE orders (id INT NOT NULL PRIMARY KEY, note VARCHAR(20));
			CREATE TABLE country (code CHAR(2) NOT NULL PRIMARY KEY); INSERT INTO country VALUES ('de'), ('fr');
			INSERT INTO orders VALUES `+fmt.Sprintf("(%d, '%s'), (%d, '%[2]s')", 10*i, shard, 10*i+1))
		defer c.src.MustExec(t, "DROP DATABASE "+database(i))
		alias := topo.TabletAlias{Cell: "east", UID: uint32(i + 1)}
		for _, err := range []error{
			ext.CreateShard(ctx, "load", shard),
			ext.InitTablet(ctx, topo.Tablet{
				Alias: alias, Type: topo.TabletPrimary, Keyspace: "load", Shard: shard, MySQLHostname: c.src.Host, MySQLPort: int32(c.src.Port), DBNameOverride: database(i),
			}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c.src.MustExec(t, "CREATE TABLE "+database(1)+".stray (id INT NOT NULL PRIMARY KEY); INSERT INTO "+database(1)+".stray VALUES (1)")

	options := migrate.CreateOptions{Source: "vit.load", AllTables: true, SourceShards: []string{"80-", "-80"}}
	if _, err := c.workflow().Create(ctx, options); !errors.Is(err, migrate.ErrNotFound) || !strings.Contains(err.Error(), "vit.load/-80") || !strings.Contains(err.Error(), "-40, 40-80, 80-") {
		t.Errorf("a shard that is none: %v", err)
	}
	// A table that is in the VSchema has to be the same on all shards that are moved, and only on these.
	c.src.MustExec(t, "ALTER TABLE "+database(0)+".orders ADD COLUMN more INT; ALTER TABLE "+database(1)+".orders ADD COLUMN more INT")
	options.SourceShards = []string{"80-", "40-80"}
	_, err = c.workflow().Create(ctx, options)
	if f := finding(err, migrate.CodeDifferent, "orders"); f == nil || f.Side != migrate.SideSource || !strings.Contains(f.Message, "80-") {
		t.Errorf("different definitions: %v", err)
	}
	c.src.MustExec(t, "ALTER TABLE "+database(1)+".orders DROP COLUMN more")
	res, err := c.workflow().Create(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	warned := false
	for _, f := range res.Warnings {
		warned = warned || f.Code == migrate.CodeDifferent && f.Object == "stray" && strings.Contains(f.Message, "not on source shard 80-")
	}
	if !warned {
		t.Errorf("warnings %v", res.Warnings)
	}
	c.run(c.m)
	st := c.await(migrate.StateRunning)
	if got := strings.Join(st.SourceShards, " "); got != "40-80 80-" || len(st.Streams) != 2 {
		t.Errorf("source shards %s, streams %+v", got, st.Streams)
	}
	for i := range shards {
		c.src.MustExec(t, fmt.Sprintf("INSERT INTO %s.orders (id, note) VALUES (%d, 'later'); DELETE FROM %[1]s.orders WHERE id = %[3]d", database(i), 10*i+5, 10*i))
	}
	c.src.MustExec(t, "INSERT INTO "+database(1)+".country VALUES ('it'); INSERT INTO "+database(2)+".country VALUES ('it')")
	for _, shard := range []string{"40-80", "80-"} {
		if err := c.workflow().WaitApplied(ctx, shard, c.position()); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"SELECT GROUP_CONCAT(id, ' ', note ORDER BY id) FROM orders": "11 40-80,15 later,21 80-,25 later",
		"SELECT GROUP_CONCAT(code ORDER BY code) FROM country":       "de,fr,it",
		"SELECT GROUP_CONCAT(id) FROM stray":                         "1",
	} {
		if got := one(t, c.dst, strings.Replace(query, "FROM ", "FROM "+c.vt+".", 1)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}

	if err := ext.UpdateShard(ctx, "load", "80-", func(s *topo.Shard) error { s.IsPrimaryServing = false; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, shard := range []string{"80-c0", "c0-"} {
		if err := ext.CreateShard(ctx, "load", shard); err != nil {
			t.Fatal(err)
		}
	}
	var message string
	until(t, "the stream of the shard that serves no more is given up", func() bool {
		for _, s := range c.show().Streams {
			if s.State == migrate.StateError {
				message = s.SourceShard + ": " + s.Message
			}
		}
		return message != ""
	})
	if !strings.HasPrefix(message, "80-: ") || !strings.Contains(message, "those that serve are -40, 40-80, 80-c0, c0-") {
		t.Errorf("message %q", message)
	}
}
