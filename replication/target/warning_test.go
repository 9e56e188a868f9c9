package target_test

import (
	"errors"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A value that the target cuts is an error whether the server lists its warnings or not, and in a row that is repaired too.
func TestCutValue(t *testing.T) {
	p := pairs()
	missing := func(r *run) *replication.Entry { return r.entry(update(p, row("9", "a", "1"), row("9", "abcd", "1"))) }
	there := func(r *run) *replication.Entry { return r.entry(insert(p, "1", "abcd", "2")) }
	bad := func(r *run) *replication.Entry { return r.entry(insert(p, "5", "abcd", "2")) }
	for name, c := range map[string]struct {
		opts  target.Options
		entry func(r *run) *replication.Entry
		what  string
	}{
		"insert":           {target.Options{}, bad, "insert: the target would change a value: Data truncated for column 'v' at row 1"},
		"repair by update": {target.Options{OnDrift: replication.OnDriftRepair}, missing, "update: the target would change a value: Data truncated for column 'v' at row 1"},
		"repair by insert": {target.Options{OnDrift: replication.OnDriftRepair}, there, "insert: the target would change a value: Data truncated for column 'v' at row 1"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *replicationtest.Server) {
				for _, listed := range []bool{true, false} {
					h := newShard(t, s, "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(3) COLLATE utf8mb4_bin, u int)", "INSERT INTO pairs VALUES (1, 'a', 1)")
					what := c.what
					if !listed {
						// Changing it for a session needs a privilege.
						h.exec("SET GLOBAL max_error_count = 0")
						defer h.exec("SET GLOBAL max_error_count = DEFAULT")
						what = "a value changes for an unknown reason"
					}
					r := h.start(h.target(c.opts, p))
					err := r.apply(c.entry(r))
					wrong, ok := errors.AsType[*replication.RowError](err)
					if !ok || wrong.Table != "pairs" || replication.Transient(err) {
						t.Fatalf("error is %v", err)
					}
					if got := wrong.Err.Error(); got != what && got != "insert: "+what && got != "update: "+what {
						t.Errorf("error is %q, want %q", got, what)
					}
					h.want("SELECT * FROM pairs", "1 a 1")
				}
			})
		})
	}
}
