package sidecar_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

var servers = []func() (*replicationtest.Server, error){
	sync.OnceValues(func() (*replicationtest.Server, error) {
		return replicationtest.RunMySQL(context.Background(), replicationtest.MySQLOptions{})
	}),
	sync.OnceValues(func() (*replicationtest.Server, error) {
		return replicationtest.RunMariaDB(context.Background(), replicationtest.MariaDBOptions{})
	}),
}

// started are the servers to close.
var started sync.Map

func TestMain(m *testing.M) {
	code := m.Run()
	started.Range(func(_, s any) bool {
		_ = s.(*replicationtest.Server).Close()
		return true
	})
	os.Exit(code)
}

// each runs f on an empty MySQL and an empty MariaDB.
func each(t *testing.T, f func(t *testing.T, db *sql.DB)) {
	for i, name := range []string{"mysql", "mariadb"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("-short runs no servers")
			}
			s, err := servers[i]()
			if err != nil {
				t.Fatal(err)
			}
			started.Store(name, s)
			s.MustExec(t, "DROP DATABASE IF EXISTS "+sidecar.DefaultDatabase)
			db, err := mysqlconn.Open(t.Context(), mysqlconn.Config{Addr: s.Addr(), User: "root"}, mysqlconn.Session{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			f(t, db)
		})
	}
}

func open(t *testing.T, db *sql.DB) *sidecar.DB {
	t.Helper()
	d, err := sidecar.Open(t.Context(), db, "")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func insert(t *testing.T, d *sidecar.DB, workflow string) int64 {
	t.Helper()
	id, err := d.InsertStream(t.Context(), &sidecar.Stream{
		Workflow: workflow, DBName: "commerce", SourceShard: "-80", Source: `{"mount":"ext1"}`, State: "Stopped", Options: `{}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func count(t *testing.T, db *sql.DB, query string) int {
	t.Helper()
	var n int
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpenIsIdempotentAndDropLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		if _, err := sidecar.Attach(db, "").Streams(t.Context(), sidecar.Filter{}); !errors.Is(err, sidecar.ErrNotFound) {
			t.Errorf("without a database: %v", err)
		}
		if gone, err := sidecar.Attach(db, "").DropIfUnused(t.Context()); err != nil || !gone {
			t.Errorf("drop without a database: %v, %v", gone, err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := sidecar.Open(t.Context(), db, ""); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		d := open(t, db)
		id := insert(t, d, "wf")
		if gone, err := d.DropIfUnused(t.Context()); err != nil || gone {
			t.Fatalf("a used database is dropped: %v, %v", gone, err)
		}
		if _, err := db.ExecContext(t.Context(), "SELECT 1 FROM "+d.Table("vreplication_log")); err != nil {
			t.Errorf("after a refused drop: %v", err)
		}
		if err := d.DeleteStream(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if gone, err := d.DropIfUnused(t.Context()); err != nil || !gone {
			t.Fatalf("an unused database stays: %v, %v", gone, err)
		}
		if n := count(t, db, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '_tablehaul'"); n != 0 {
			t.Error("the database is still there")
		}
		if err := d.DeleteStream(t.Context(), id); err != nil {
			t.Errorf("delete without a database: %v", err)
		}
		if id := insert(t, d, "again"); id == 0 {
			t.Error("no stream after the tables were dropped")
		}
	})
}

func TestDropKeepsWhatIsNotOurs(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		if _, err := db.ExecContext(t.Context(), "CREATE DATABASE _tablehaul"); err != nil {
			t.Fatal(err)
		}
		d := open(t, db)
		if gone, err := d.DropIfUnused(t.Context()); err != nil || !gone {
			t.Fatal(gone, err)
		}
		if n := count(t, db, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '_tablehaul'"); n != 1 {
			t.Error("a database that was there before is dropped")
		}
		if n := count(t, db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '_tablehaul'"); n != 0 {
			t.Error("tables are left")
		}
	})
}

func TestNewerVersionIsRefused(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		if _, err := db.ExecContext(t.Context(), "UPDATE "+d.Table("sidecar_version")+" SET version = 99"); err != nil {
			t.Fatal(err)
		}
		if _, err := sidecar.Open(t.Context(), db, ""); !errors.Is(err, sidecar.ErrNewer) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestStreamRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		want := sidecar.Stream{
			Workflow: "wf", Source: `{"mount":"ext1","tables":["ä","b'\\"]}`, SourceShard: "-80", StopPosition: "MySQL56/x:1-5",
			Cell: "zone1", TabletTypes: "in_order:replica,primary", State: "Stopped", Message: "ünïcode \U0001f600", DBName: "commerce",
			Tags: "t", WorkflowType: 1, WorkflowSubType: 2, DeferSecondaryKeys: true, Options: `{"x":1}`, Lag: -time.Millisecond,
		}
		id, err := d.InsertStream(t.Context(), &want)
		if err != nil {
			t.Fatal(err)
		}
		want.ID = id
		got, err := d.Stream(t.Context(), id)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
		if _, err := d.InsertStream(t.Context(), &want); !errors.Is(err, sidecar.ErrExists) {
			t.Errorf("a second stream of the same name: %v", err)
		}
		insert(t, d, "other")
		list, err := d.Streams(t.Context(), sidecar.Filter{Workflow: "wf", DBName: "commerce"})
		if err != nil || len(list) != 1 || list[0].ID != id {
			t.Errorf("list is %v, %v", list, err)
		}
		if _, err := d.Stream(t.Context(), id+100); !errors.Is(err, sidecar.ErrNotFound) {
			t.Errorf("a missing stream: %v", err)
		}
		if err := d.UpdateState(t.Context(), id+100, "Running", ""); !errors.Is(err, sidecar.ErrNotFound) {
			t.Errorf("state of a missing stream: %v", err)
		}
		epoch, _, err := d.TakeOver(t.Context(), id, "me")
		if err != nil {
			t.Fatal(err)
		}
		r := sidecar.Report{
			Position: "MySQL56/a:1-9", Transaction: time.Unix(1000, 0), Heartbeat: time.Unix(2000, 0), Lag: 1500 * time.Millisecond, RowsCopied: 7,
			Tables: map[string]sidecar.TableProgress{"t": {Rows: 7, Bytes: 70, Done: true, Started: 5}},
		}
		if err := d.SaveProgress(t.Context(), id, epoch, r); err != nil {
			t.Fatal(err)
		}
		if err := d.SaveProgress(t.Context(), id, epoch-1, sidecar.Report{Position: "old"}); err != nil {
			t.Fatal(err)
		}
		got, err = d.Stream(t.Context(), id)
		if err != nil || got.Position != r.Position || got.Lag != r.Lag || got.RowsCopied != 7 || !reflect.DeepEqual(got.Tables, r.Tables) ||
			got.Transaction.Unix() != 1000 || got.Heartbeat.Unix() != 2000 || time.Since(got.Updated) > time.Minute {
			t.Errorf("after SaveProgress: %+v, %v", got, err)
		}
	})
}

func TestLogCountsRepeats(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		for range 3 {
			if err := d.Log(t.Context(), id, "Message", "Running", "no é"); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.UpdateState(t.Context(), id, "Running", ""); err != nil {
			t.Fatal(err)
		}
		if err := d.UpdateState(t.Context(), id, "Running", "still"); err != nil {
			t.Fatal(err)
		}
		logs, err := d.Logs(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range logs {
			got = append(got, fmt.Sprint(e.Type, "/", e.State, "/", e.Count))
			if time.Since(e.Created).Abs() > time.Minute || e.Updated.Before(e.Created) {
				t.Errorf("times of %+v", e)
			}
		}
		want := []string{"Stream Created/Stopped/1", "Message/Running/3", "State Changed/Running/1"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("log is %v, want %v", got, want)
		}
	})
}

// Lines of type Drift are removed, but not what they count; lines of other types stay.
func TestTrimDrifts(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id, other := insert(t, d, "wf"), insert(t, d, "other")
		total := int64(0)
		drift := func(id int64, n int, more int64) {
			t.Helper()
			var messages []string
			for i := range n {
				messages = append(messages, fmt.Sprint("row ", total+int64(i)))
			}
			if _, err := db.ExecContext(t.Context(), string(d.AppendDrifts(nil, id, messages, more))); err != nil {
				t.Fatal(err)
			}
			total += int64(n) + more
		}
		check := func(lines int, first string) {
			t.Helper()
			if err := d.TrimDrifts(t.Context(), id, 5); err != nil {
				t.Fatal(err)
			}
			if n, err := d.Drifts(t.Context(), id); err != nil || n != total {
				t.Errorf("%d drifts are counted, %v; want %d", n, err, total)
			}
			logs, err := d.Logs(t.Context(), id, 0)
			if err != nil {
				t.Fatal(err)
			}
			logs = slices.DeleteFunc(logs, func(e sidecar.LogEntry) bool { return e.Type != sidecar.TypeDrift })
			if len(logs) != lines || lines > 0 && logs[0].Message != first {
				t.Errorf("the log is %+v, want %d lines, the first %q", logs, lines, first)
			}
		}
		check(0, "")
		drift(id, 6, 0)
		check(6, "row 0")
		if err := d.Log(t.Context(), id, "Message", "Running", "stays"); err != nil {
			t.Fatal(err)
		}
		drift(id, 3, 0)
		check(6, "4 earlier rows, whose lines were removed")
		drift(id, 2, 100)
		check(6, "7 earlier rows, whose lines were removed")
		drift(id, 12, 0)
		check(6, "118 earlier rows, whose lines were removed")
		was := total
		drift(other, 20, 0)
		total = was
		check(6, "118 earlier rows, whose lines were removed")
		if n, err := d.Drifts(t.Context(), other); err != nil || n != 20 {
			t.Errorf("the other stream has %d, %v", n, err)
		}
		if logs, err := d.Logs(t.Context(), id, 0); err != nil || len(logs) != 6+2 {
			t.Errorf("%d lines, %v", len(logs), err)
		}
	})
}

// commit writes a position and a span as an owner of the given epoch does.
func commit(ctx context.Context, db *sql.DB, statements ...[]byte) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range statements {
		r, err := tx.ExecContext(ctx, string(s))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(fmt.Errorf("%d rows affected by %s", n, s), err)
		}
	}
	return tx.Commit()
}

func TestRingAndFence(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		old, m, err := d.TakeOver(t.Context(), id, "one")
		if err != nil || m != (sidecar.Mark{}) {
			t.Fatal(m, err)
		}
		for seq := int64(1); seq <= 20; seq++ {
			m := sidecar.Mark{Seq: seq, Position: fmt.Sprint("MySQL56/a:1-", seq), Transaction: time.UnixMicro(1e15 + seq).UTC()}
			if err := commit(t.Context(), db, d.AppendPosition(nil, id, old, m)); err != nil {
				t.Fatal(err)
			}
			got, err := d.Position(t.Context(), id)
			if err != nil || got != m {
				t.Fatalf("position is %+v, %v, want %+v", got, err, m)
			}
		}
		epoch, m, err := d.TakeOver(t.Context(), id, "two")
		if err != nil || epoch != old+1 || m.Seq != 20 {
			t.Fatal(epoch, m, err)
		}
		if owner, now, _, err := d.Owner(t.Context(), id); owner != "two" || now != epoch || err != nil {
			t.Error(owner, now, err)
		}
		for _, s := range [][]byte{
			d.AppendPosition(nil, id, old, sidecar.Mark{Seq: 21}),
			d.AppendSpan(nil, id, old, sidecar.Span{Table: "t"}),
		} {
			if code, _ := mysqlerr.Code(commit(t.Context(), db, s)); code != sidecar.FenceError {
				t.Errorf("%s by a deposed owner gives %d", s, code)
			}
		}
		if err := d.DeleteStream(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := commit(t.Context(), db, d.AppendSpan(nil, id, epoch, sidecar.Span{Table: "t"})); err == nil {
			t.Error("a span of a deleted stream is recorded")
		}
		for _, table := range []string{"vreplication", "vreplication_epoch", "vreplication_pos", "copy_state", "vreplication_log"} {
			if n := count(t, db, "SELECT COUNT(*) FROM "+d.Table(table)); n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
	})
}

// TestTakeOverWaitsForACommit holds the fence open in a transaction, as a commit on its way does.
func TestTakeOverWaitsForACommit(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		epoch, _, err := d.TakeOver(t.Context(), id, "one")
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), string(d.AppendPosition(nil, id, epoch, sidecar.Mark{Seq: 1, Position: "p"}))); err != nil {
			t.Fatal(err)
		}
		done := make(chan sidecar.Mark)
		go func() {
			_, m, err := d.TakeOver(t.Context(), id, "two")
			if err != nil {
				t.Error(err)
			}
			done <- m
		}()
		select {
		case m := <-done:
			t.Errorf("took over with %+v while a commit was on its way", m)
		case <-time.After(300 * time.Millisecond):
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if m := <-done; m.Position != "p" {
				t.Errorf("the new owner sees %+v", m)
			}
		}
	})
}

func TestSpansKeepEveryByteAndFold(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		epoch, _, err := d.TakeOver(t.Context(), id, "one")
		if err != nil {
			t.Fatal(err)
		}
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		want := []sidecar.Span{
			{Table: "t", Hi: every, Rows: 3, Bytes: 30},
			{Table: "t", Lo: every, Hi: []byte("0xdeadbeef'\\"), Rows: 4, Bytes: 40},
			{Table: "tä`", Lo: []byte("x"), Rows: 1, Bytes: 2},
		}
		for _, s := range want {
			if err := commit(t.Context(), db, d.AppendSpan(nil, id, epoch, s)); err != nil {
				t.Fatal(err)
			}
		}
		same := func(when string, want []sidecar.Span) {
			t.Helper()
			got, err := d.Spans(t.Context(), id)
			for i := range got {
				got[i].ID = 0
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: spans are %v, %v, want %v", when, got, err, want)
			}
		}
		same("as written", want)
		fold := func(old []sidecar.Span) []sidecar.Span {
			return []sidecar.Span{{Table: "t", Hi: bytes.Clone(old[1].Hi), Rows: old[0].Rows + old[1].Rows, Bytes: 70}}
		}
		if err := d.FoldSpans(t.Context(), id, epoch-1, "t", fold); err != nil {
			t.Fatal(err)
		}
		same("after a deposed owner's fold", want)
		if err := d.FoldSpans(t.Context(), id, epoch, "t", fold); err != nil {
			t.Fatal(err)
		}
		same("after a fold", []sidecar.Span{want[2], {Table: "t", Hi: want[1].Hi, Rows: 7, Bytes: 70}})
	})
}

func TestDefinitions(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		list := []sidecar.Definition{
			{Table: "t", Text: "{}", Read: "MySQL56/"},
			{Table: "t", Since: "00000000-0000-0000-0000-000000000001:7", Text: "{\"a\": 1}", Read: "MySQL56/00000000-0000-0000-0000-000000000001:1-9"},
		}
		big := sidecar.Definition{Table: "big", Text: strings.Repeat("ü", 1<<20), Read: "MySQL56/"}
		if err := d.AddDefinitions(t.Context(), id, append(list, big)); err != nil {
			t.Fatal(err)
		}
		other := list[1]
		other.Text = "other"
		if err := d.AddDefinitions(t.Context(), id, []sidecar.Definition{other}); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Definitions(t.Context(), id); err != nil || !slices.Equal(got, append(list, big)) {
			t.Errorf("the first ones stay: %d, %v", len(got), err)
		}
		other.Read = ""
		if err := d.SetDefinition(t.Context(), id, other); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Definitions(t.Context(), id); err != nil || len(got) != 3 || got[1] != other {
			t.Errorf("set: %d, %v", len(got), err)
		}
		if err := d.DeleteStream(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Definitions(t.Context(), id); err != nil || len(got) > 0 {
			t.Errorf("after the stream: %d, %v", len(got), err)
		}
	})
}

func TestPostCopyActions(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		id := insert(t, d, "wf")
		a := sidecar.Action{StreamID: id, Table: "t", Keys: []sidecar.ActionKey{{Name: "k", Definition: "KEY `k` (`k`) COMMENT 'é\\\\'"}}}
		for range 2 {
			if err := d.AddPostCopyAction(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.PostCopyActions(t.Context(), id)
		if err != nil || !reflect.DeepEqual(got, []sidecar.Action{a}) {
			t.Errorf("got %+v, %v", got, err)
		}
		// Another stream of the workflow fills the table too, one of another workflow has a table of that name.
		other, err := d.InsertStream(t.Context(), &sidecar.Stream{Workflow: "wf", DBName: "commerce", SourceShard: "80-", State: "Stopped", Options: `{}`})
		if err != nil {
			t.Fatal(err)
		}
		stranger := insert(t, d, "stranger")
		for of, table := range map[int64]string{other: "t", stranger: "t", id: "u"} {
			if err := d.AddPostCopyAction(t.Context(), sidecar.Action{StreamID: of, Table: table}); err != nil {
				t.Fatal(err)
			}
		}
		listed := func(table string) string {
			list, err := d.WorkflowActions(t.Context(), other, table)
			if err != nil {
				t.Fatal(err)
			}
			names := ""
			for _, a := range list {
				names += fmt.Sprintf(" %d.%s", a.StreamID, a.Table)
			}
			return names
		}
		if got, want := listed("t"), fmt.Sprintf(" %d.t %d.t", id, other); got != want {
			t.Errorf("actions of the table:%s, want%s", got, want)
		}
		if got, want := listed(""), fmt.Sprintf(" %d.t %d.u %d.t", id, id, other); got != want {
			t.Errorf("actions of the workflow:%s, want%s", got, want)
		}
		for _, ask := range []struct {
			of    int64
			table string
			last  bool
		}{{other, "u", false}, {other, "t", false}, {other, "t", false}, {id, "t", true}, {id, "t", true}, {stranger, "t", true}} {
			if last, err := d.IsLast(t.Context(), ask.of, ask.table); err != nil || last != ask.last {
				t.Errorf("stream %d is the last of table %s: %v, %v", ask.of, ask.table, last, err)
			}
		}
		if got, want := listed(""), fmt.Sprintf(" %d.t %d.u", id, id); got != want {
			t.Errorf("actions afterwards:%s, want%s", got, want)
		}
		if err := d.DeletePostCopyAction(t.Context(), id, "u"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := d.DeletePostCopyAction(t.Context(), id, "t"); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := d.PostCopyActions(t.Context(), id); err != nil || len(got) > 0 {
			t.Errorf("after the delete: %+v, %v", got, err)
		}
	})
}

func TestVDiff(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		d := open(t, db)
		v := sidecar.VDiff{UUID: "u1", Workflow: "wf", Keyspace: "commerce", Shard: "0", DBName: "commerce", State: "pending", Options: `{}`}
		id, err := d.InsertVDiff(t.Context(), &v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.InsertVDiff(t.Context(), &v); !errors.Is(err, sidecar.ErrExists) {
			t.Errorf("the same UUID again: %v", err)
		}
		for _, state := range []string{"started", "completed"} {
			if err := d.UpdateVDiff(t.Context(), id, state, ""); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.LastVDiff(t.Context(), "commerce", "wf")
		if err != nil || got.State != "completed" || got.Started.IsZero() || got.Completed.Before(got.Started) {
			t.Errorf("got %+v, %v", got, err)
		}
		pk := []byte{0, 1, 0xff, '\''}
		for _, n := range []int64{5, 9} {
			err := d.SaveVDiffTable(t.Context(), sidecar.VDiffTable{VDiffID: id, Table: "t", State: "started", LastPK: pk, RowsCompared: n, Mismatch: true, Report: "{}"})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := d.LogVDiff(t.Context(), id, "State changed to: started"); err != nil {
			t.Fatal(err)
		}
		tables, err := d.VDiffTables(t.Context(), id)
		if err != nil || len(tables) != 1 || tables[0].RowsCompared != 9 || !bytes.Equal(tables[0].LastPK, pk) || !tables[0].Mismatch {
			t.Errorf("tables are %+v, %v", tables, err)
		}
		if logs, err := d.VDiffLogs(t.Context(), id); err != nil || len(logs) != 1 {
			t.Errorf("logs are %+v, %v", logs, err)
		}
		if gone, err := d.DropIfUnused(t.Context()); gone || err != nil {
			t.Errorf("dropped with a diff in it: %v, %v", gone, err)
		}
		if err := d.DeleteVDiffs(t.Context(), "commerce", "wf"); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db, "SELECT (SELECT COUNT(*) FROM "+d.Table("vdiff_table")+") + (SELECT COUNT(*) FROM "+d.Table("vdiff_log")+")"); n != 0 {
			t.Errorf("%d rows are left of a deleted diff", n)
		}
		if _, err := d.VDiff(t.Context(), "u1"); !errors.Is(err, sidecar.ErrNotFound) {
			t.Errorf("a deleted diff: %v", err)
		}
	})
}
