package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/topo"
)

// A sequence is a table with one row, as Vitess wants it: vtgate takes cache ids at a time and raises next_id. This is what its table looks like,
// and the row before anybody has taken an id.
const (
	sequenceColumns = " (id BIGINT, next_id BIGINT, cache BIGINT, PRIMARY KEY (id)) COMMENT 'vitess_sequence'"
	sequenceComment = "vitess_sequence"
	sequenceCache   = 1000
)

// createSQL makes the sequence's table unless it is there.
func (s sequenceRecord) createSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + ident(s.Name) + sequenceColumns
}

// raiseSQL makes next the id that is handed out next, unless the sequence is past it already.
func (s sequenceRecord) raiseSQL(next int64) string {
	n := strconv.FormatInt(next, 10)
	return "INSERT INTO " + ident(s.Name) + " (id, next_id, cache) VALUES (0, " + n + ", " + strconv.Itoa(sequenceCache) + ")" +
		" ON DUPLICATE KEY UPDATE next_id = IF(next_id IS NULL OR next_id < " + n + ", " + n + ", next_id)"
}

// A sequenceTable is what has the name of a sequence.
type sequenceTable struct {
	kind, comment string
	columns       []string
}

// problem says why it is no sequence; empty if it is one.
func (t *sequenceTable) problem() string {
	switch {
	case t.kind != "BASE TABLE":
		return "it is a " + strings.ToLower(t.kind)
	case t.comment != sequenceComment:
		return "its comment is not '" + sequenceComment + "'"
	}
	for _, want := range []string{"id", "next_id", "cache"} {
		if !slices.ContainsFunc(t.columns, func(c string) bool { return strings.EqualFold(c, want) }) {
			return "it has no column " + want
		}
	}
	return ""
}

// A globalState is what was read of the keyspace that sequences are in.
type globalState struct {
	keyspace string
	vschema  *topo.VSchema
	shards   int
	// server is nil, and nothing is known of tables, where the keyspace is none that can have sequences.
	server *server
	schema string
	tables map[string]*sequenceTable
}

// check says what keeps sequences from being in the keyspace, and notes which have to be made.
func (g *globalState) check(fs *findings, seqs []sequenceRecord) {
	add := func(sev Severity, side Side, object, message, fix string) {
		fs.add(Finding{Code: CodeSequence, Severity: sev, Side: side, Object: object, Message: message, Fix: fix})
	}
	switch {
	case g.vschema.Sharded:
		add(SeverityError, SideTopology, g.keyspace, fmt.Sprintf("GlobalKeyspace %s is sharded: a sequence counts on one shard", g.keyspace), "name a keyspace that is not sharded")
		return
	case g.shards != 1:
		add(SeverityError, SideTopology, g.keyspace, fmt.Sprintf("GlobalKeyspace %s has %d serving shards, not one", g.keyspace, g.shards), "name a keyspace with one shard")
		return
	case g.server == nil:
		return
	}
	if g.server.on("read_only", false) || g.server.on("super_read_only", false) {
		fs.add(Finding{
			Code: CodeReadOnly, Side: SideTarget, Server: g.server.addr, Object: "read_only", Message: fmt.Sprintf("the primary of GlobalKeyspace %s is read-only", g.keyspace),
			Fix: "SET GLOBAL super_read_only = OFF, read_only = OFF, or correct the primary in the topology",
		})
	}
	var missing []string
	for _, p := range []string{"SELECT", "INSERT", "UPDATE", "CREATE", "DROP"} {
		if !g.server.grants.has(p, g.schema, "") {
			missing = append(missing, p)
		}
	}
	if list := strings.Join(missing, ", "); list != "" {
		fs.add(Finding{
			Code: CodePrivilege, Side: SideTarget, Server: g.server.addr, Object: list, Message: fmt.Sprintf("the account lacks %s on %s.*", list, ident(g.schema)),
			Fix: fmt.Sprintf("GRANT %s ON %s.* TO the account", list, ident(g.schema)),
		})
	}
	for i := range seqs {
		s := &seqs[i]
		if why := g.problem(*s); why != "" {
			add(SeverityError, SideTarget, s.Table, why, "rename or drop what has the name, correct the VSchema, or add auto_increment with another sequence to the table in the VSchema")
			continue
		}
		if s.Create = g.tables[s.Name] == nil; !s.Create {
			add(SeverityWarning, SideTarget, s.Table, fmt.Sprintf("sequence %s is there already: the vttablet of keyspace %s may have ids of it in memory, and hand them out after Complete", s, s.Keyspace),
				"if Complete can't tell the vttablet to forget them, which it says then, restart it before the tables are written")
		}
	}
}

// problem says why a sequence can't have its name; empty if it can.
func (g *globalState) problem(s sequenceRecord) string {
	if t := g.tables[s.Name]; t != nil {
		if why := t.problem(); why != "" {
			return fmt.Sprintf("%s of keyspace %s can't be the sequence of table %s: %s", ident(s.Name), s.Keyspace, ident(s.Table), why)
		}
	}
	if e := g.vschema.Tables[s.Name]; e != nil && e.Type != "sequence" {
		return fmt.Sprintf("%s of keyspace %s can't be the sequence of table %s: its type is %q in the VSchema, not \"sequence\"", ident(s.Name), s.Keyspace, ident(s.Table), e.Type)
	}
	return ""
}

// sequenceTables reads what has these names in a database.
func sequenceTables(ctx context.Context, db *sql.DB, schema string, names []string) (map[string]*sequenceTable, error) {
	out := map[string]*sequenceTable{}
	where := " WHERE TABLE_SCHEMA = " + literal(schema) + " AND TABLE_NAME IN (" + literals(names) + ")"
	err := queryStrings(ctx, db, "SELECT TABLE_NAME, TABLE_TYPE, TABLE_COMMENT FROM information_schema.TABLES"+where, func(v []string) {
		out[v[0]] = &sequenceTable{kind: v[1], comment: v[2]}
	})
	if err != nil {
		return nil, err
	}
	err = queryStrings(ctx, db, "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS"+where, func(v []string) {
		if t := out[v[0]]; t != nil {
			t.columns = append(t.columns, v[1])
		}
	})
	return out, err
}

// readGlobal reads the keyspace that sequences are to be in. Its shard is nil where it can't have any.
func (m *Migrator) readGlobal(ctx context.Context, keyspace string, seqs []sequenceRecord) (*globalState, *targetShard, error) {
	g := &globalState{keyspace: keyspace}
	if _, err := m.topo.Keyspace(ctx, keyspace); err != nil {
		return nil, nil, topoError("keyspace", keyspace, err)
	}
	var err error
	if g.vschema, err = m.vschema(ctx, keyspace); err != nil {
		return nil, nil, err
	}
	serving, err := m.topo.ServingShards(ctx, keyspace)
	if err != nil {
		return nil, nil, topoError("serving shard of keyspace", keyspace, err)
	}
	if g.shards = len(serving); g.shards != 1 || g.vschema.Sharded {
		return g, nil, nil
	}
	t, err := m.targetShard(ctx, keyspace, serving[0].Name)
	if err != nil {
		return nil, nil, fmt.Errorf("shard %s/%s: %w", keyspace, serving[0].Name, err)
	}
	g.schema = t.cfg.Database
	if g.server, err = inspectServer(ctx, t.admin, t.cfg.Addr); err != nil {
		return nil, nil, fmt.Errorf("shard %s/%s: %w", keyspace, t.shard, err)
	}
	var names []string
	for _, s := range seqs {
		names = append(names, s.Name)
	}
	if g.tables, err = sequenceTables(ctx, t.admin, g.schema, names); err != nil {
		return nil, nil, fmt.Errorf("shard %s/%s: %w", keyspace, t.shard, err)
	}
	return g, t, nil
}

// sequenceDB is the database that sequences are in, which is made if it is not there.
func (m *Migrator) sequenceDB(ctx context.Context, keyspace string) (*sql.DB, error) {
	shards, err := m.targetShards(ctx, keyspace)
	if err != nil {
		return nil, err
	}
	if len(shards) != 1 {
		return nil, fmt.Errorf("keyspace %s has %d serving shards, not one", keyspace, len(shards))
	}
	t := shards[0]
	found, err := databaseExists(ctx, t.admin, t.cfg.Database)
	if err != nil {
		return nil, err
	}
	if !found {
		if _, err := t.admin.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+ident(t.cfg.Database)); err != nil {
			return nil, err
		}
	}
	return m.pools.db(ctx, t.cfg, forSchema)
}

// createSequence makes a sequence that has handed nothing out; one that is there stays as it is.
func (m *Migrator) createSequence(ctx context.Context, s sequenceRecord) error {
	db, err := m.sequenceDB(ctx, s.Keyspace)
	if err != nil {
		return err
	}
	for _, statement := range []string{s.createSQL(), s.raiseSQL(1)} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// raiseSequence sets a sequence above an id, and returns what it hands out next.
func (m *Migrator) raiseSequence(ctx context.Context, s sequenceRecord, highest int64) (int64, error) {
	db, err := m.sequenceDB(ctx, s.Keyspace)
	if err != nil {
		return 0, err
	}
	for _, statement := range []string{s.createSQL(), s.raiseSQL(highest + 1)} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	var next int64
	err = db.QueryRowContext(ctx, "SELECT next_id FROM "+ident(s.Name)+" WHERE id = 0").Scan(&next)
	return next, err
}

// highestID is the highest id of a table on all of these shards; at least 0. An id that no sequence can follow is an error.
func highestID(ctx context.Context, shards []*targetShard, s sequenceRecord) (int64, error) {
	ids := make([]int64, len(shards))
	err := eachShard(shards, func(i int, t *targetShard) error {
		var text sql.NullString
		err := t.admin.QueryRowContext(ctx, "SELECT MAX("+ident(s.Column)+") FROM "+ident(t.cfg.Database)+"."+ident(s.Table)).Scan(&text)
		if mysqlerr.NotFound(err) {
			return nil // a shard that gets no rows of the workflow
		}
		if err == nil && text.Valid {
			ids[i], err = parseID(text.String)
		}
		if err != nil {
			return fmt.Errorf("highest %s of table %s on shard %s: %w", s.Column, s.Table, t.shard, err)
		}
		return nil
	})
	return max(0, slices.Max(append(ids, 0))), err
}

// parseID reads an id that a sequence can go on from.
func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id == math.MaxInt64 {
		return 0, fmt.Errorf("%s: a sequence hands out ids up to %d", text, int64(math.MaxInt64))
	}
	return id, nil
}

// dropSequence drops the table of a sequence that Create has made for a table of a keyspace. One that somebody has taken ids from, or that the
// VSchema names for another table, stays.
func (m *Migrator) dropSequence(ctx context.Context, keyspace string, s sequenceRecord) (dropped bool, err error) {
	user, err := m.sequenceUser(ctx, keyspace, s)
	if err != nil {
		return false, err
	}
	if user != "" {
		m.log.Warn("a sequence is used by the VSchema: it stays", "sequence", s.String(), "table", user)
		return false, nil
	}
	if _, err := m.topo.Keyspace(ctx, s.Keyspace); errors.Is(err, topo.ErrNoNode) {
		return false, nil // it has gone with its keyspace
	}
	g, t, err := m.readGlobal(ctx, s.Keyspace, []sequenceRecord{s})
	if err != nil {
		return false, err
	}
	if t == nil || g.tables[s.Name] == nil || g.tables[s.Name].problem() != "" {
		return false, nil
	}
	db, err := m.pools.db(ctx, t.cfg, forSchema)
	if err != nil {
		return false, err
	}
	var next sql.NullInt64
	err = db.QueryRowContext(ctx, "SELECT MAX(next_id) FROM "+ident(s.Name)).Scan(&next)
	if err == nil && next.Int64 > 1 {
		m.log.Warn("a sequence has handed ids out: it stays", "sequence", s.String())
		return false, nil
	}
	if err == nil {
		_, err = db.ExecContext(ctx, "DROP TABLE "+ident(s.Name))
	}
	if mysqlerr.NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// sequenceUser is a table, as "keyspace.table", whose ids come from the sequence by a VSchema, but for the one of keyspace that it was made for: that is
// put there by Complete, or was there before Create. It is empty if there is none.
func (m *Migrator) sequenceUser(ctx context.Context, keyspace string, s sequenceRecord) (string, error) {
	keyspaces, err := m.topo.Keyspaces(ctx)
	if err != nil {
		return "", err
	}
	for _, ks := range keyspaces {
		vs, err := m.vschema(ctx, ks)
		if err != nil {
			return "", err
		}
		for _, name := range sortedKeys(vs.Tables) {
			t := vs.Tables[name]
			if t == nil || t.AutoIncrement == nil || ks == keyspace && name == s.Table {
				continue
			}
			other := sequenceRecord{Column: t.AutoIncrement.Column, Keyspace: s.Keyspace, Name: s.Name}
			if other.is(t.AutoIncrement) {
				return ks + "." + name, nil
			}
		}
	}
	return "", nil
}

// sequencesOf are the sequences of a workflow, by name.
func sequencesOf(streams []*stream) []sequenceRecord {
	seen := map[string]sequenceRecord{}
	for _, s := range streams {
		for _, q := range s.record.Sequences {
			seen[q.String()] = q
		}
	}
	var out []sequenceRecord
	for _, name := range sortedKeys(seen) {
		out = append(out, seen[name])
	}
	return out
}

// dropSequenceSteps remove the sequences that Create made.
func dropSequenceSteps(seqs []sequenceRecord) []Step {
	var steps []Step
	for _, s := range seqs {
		if s.Create {
			steps = append(steps, Step{Kind: StepDropSequence, Object: s.String(), Text: "unless it is in use"})
		}
	}
	return steps
}

// named is the sequence that a step is about.
func named(seqs []sequenceRecord, name string) sequenceRecord {
	i := slices.IndexFunc(seqs, func(s sequenceRecord) bool { return s.String() == name })
	return seqs[i]
}
