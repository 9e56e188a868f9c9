package migrate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// familySchema has foreign keys of all actions: two and three levels, collated columns, a table without an order that is
// known outside of the server, and one that keeps rows from being deleted. Names are such that tables come before those that
// they reference.
const familySchema = `
CREATE TABLE region (id INT NOT NULL PRIMARY KEY, code VARCHAR(20) NOT NULL, UNIQUE KEY code (code));
CREATE TABLE customer (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, region INT, code VARCHAR(20), name VARCHAR(40), KEY name (name),
  CONSTRAINT c_region FOREIGN KEY (region) REFERENCES region (id) ON DELETE SET NULL ON UPDATE CASCADE,
  CONSTRAINT c_code FOREIGN KEY (code) REFERENCES region (code) ` + collatedUpdate + `;
CREATE TABLE basket (id INT NOT NULL PRIMARY KEY, customer INT, v INT,
  CONSTRAINT b_customer FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE article (id INT NOT NULL PRIMARY KEY, basket INT NOT NULL, v INT, KEY v (v),
  CONSTRAINT a_basket FOREIGN KEY (basket) REFERENCES basket (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE alias (w VARCHAR(20) NOT NULL PRIMARY KEY, customer INT, v INT,
  CONSTRAINT w_customer FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE ON UPDATE SET NULL);
CREATE TABLE audit (id INT NOT NULL PRIMARY KEY, customer INT, v INT, CONSTRAINT audited FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO region SELECT i, CONCAT('Code', i) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i FROM n) x;
INSERT INTO customer (id, region, code, name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
  SELECT i, 1 + i % 100, CONCAT('cODE', 1 + i % 100), CONCAT('name', i) FROM n;
INSERT INTO basket WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 990) SELECT i, 1 + i % 900, i FROM n;
INSERT INTO article SELECT id, id, id FROM basket; INSERT INTO article SELECT id + 2000, id, id FROM basket;
INSERT INTO alias SELECT CONCAT('Alias', id), 1 + id % 900, id FROM basket;
INSERT INTO audit SELECT id, 10 * id, 1 FROM region WHERE id < 80;
SET foreign_key_checks = 0;
INSERT INTO basket VALUES (995, 12345, 1), (996, 54321, 2); INSERT INTO article VALUES (9001, 77777, 1); INSERT INTO alias VALUES ('orphan', 4444, 0)`

// treeSchema references itself.
const treeSchema = `
CREATE TABLE tree (id INT NOT NULL PRIMARY KEY, parent INT, v INT,
  CONSTRAINT up FOREIGN KEY (parent) REFERENCES tree (id) ON DELETE CASCADE);
INSERT INTO tree SELECT id, NULL, 0 FROM region; INSERT INTO tree SELECT id + 100, id, 0 FROM region; INSERT INTO tree SELECT id + 200, id + 100, 0 FROM region;
SET foreign_key_checks = 0;
INSERT INTO tree VALUES (900, 901, 0)`

// circleSchema is a circle of two tables, filled without checks.
const circleSchema = `
SET foreign_key_checks = 0;
CREATE TABLE egg (id INT NOT NULL PRIMARY KEY, hen INT, CONSTRAINT laid FOREIGN KEY (hen) REFERENCES hen (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE hen (id INT NOT NULL PRIMARY KEY, egg INT, CONSTRAINT hatched FOREIGN KEY (egg) REFERENCES egg (id) ON DELETE CASCADE);
INSERT INTO egg SELECT id, 1 + id % 100 FROM region; INSERT INTO hen SELECT id, 1 + (id * 7) % 100 FROM region`

// collatedUpdate is what MySQL 9.7 as a target can't be trusted with.
const collatedUpdate = "ON DELETE SET NULL ON UPDATE CASCADE)"

// writeFamily changes the tables at random until ctx ends; foreign keys act, or refuse.
func writeFamily(ctx context.Context, db *sql.DB, seed uint64, done *atomic.Int64) error {
	rnd := rand.New(rand.NewPCG(seed, 3))
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	n := func(of int) int { return 1 + rnd.IntN(of) }
	for ctx.Err() == nil {
		checks := "SET foreign_key_checks = 1"
		if rnd.IntN(8) == 0 {
			checks = "SET foreign_key_checks = 0"
		}
		statements := []string{checks, "BEGIN"}
		for range n(4) {
			statements = append(statements, familyStatement(rnd, n))
		}
		end := "COMMIT"
		if rnd.IntN(15) == 0 {
			end = "ROLLBACK"
		}
		for _, q := range append(statements, end) {
			_, err := conn.ExecContext(context.WithoutCancel(ctx), q)
			var e *mysql.MySQLError
			// Tables that the test does without, duplicate keys, what foreign keys refuse, deadlocks and lock waits.
			if err != nil && (!errors.As(err, &e) || !slices.Contains([]uint16{1146, 3008, 1062, 1451, 1452, 1761, 1213, 1205}, e.Number)) {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		done.Add(1)
	}
	return nil
}

func familyStatement(rnd *rand.Rand, n func(int) int) string {
	switch rnd.IntN(21) {
	case 0:
		return fmt.Sprintf("DELETE FROM region WHERE id = %d", n(110))
	case 1:
		return fmt.Sprintf("INSERT INTO region VALUES (%d, 'CODE%d')", n(110), n(110))
	case 2:
		return fmt.Sprintf("UPDATE region SET id = %d, code = CONCAT('x', code) WHERE id = %d AND LENGTH(code) < 15", n(110), n(110))
	case 3:
		return fmt.Sprintf("UPDATE region SET code = IF(code LIKE 'C%%', LOWER(code), CONCAT('Code', %d)) WHERE id = %d", n(110), n(110))
	case 4:
		return fmt.Sprintf("DELETE FROM customer WHERE id IN (%d, %d)", n(1000), n(1000))
	case 5:
		return fmt.Sprintf("INSERT INTO customer (id, region, name) VALUES (%d, %d, 'new')", n(1000), n(110))
	case 6:
		return fmt.Sprintf("UPDATE customer SET id = %d WHERE id = %d", n(1000), n(1000))
	case 7:
		return fmt.Sprintf("UPDATE customer SET region = %d, name = 'moved' WHERE id = %d", n(110), n(1000))
	case 8:
		return fmt.Sprintf("INSERT INTO basket VALUES (%d, %d, 5)", n(1000), n(1000))
	case 9:
		return fmt.Sprintf("UPDATE basket SET v = v + 1, customer = IF(v %% 3 = 0, %d, customer) WHERE id = %d", n(1000), n(1000))
	case 10:
		return fmt.Sprintf("UPDATE basket SET id = %d WHERE id = %d", n(1000), n(1000))
	case 11:
		return fmt.Sprintf("DELETE FROM basket WHERE id = %d", n(1000))
	case 12:
		return fmt.Sprintf("INSERT INTO article VALUES (%d, %d, 1)", n(4000), n(1000))
	case 13:
		return fmt.Sprintf("UPDATE article SET v = v + 1 WHERE id = %d", n(4000))
	case 14:
		return fmt.Sprintf("REPLACE INTO alias VALUES ('%s%d', %d, %d)", []string{"alias", "ALIAS"}[rnd.IntN(2)], n(1000), n(1000), n(9))
	case 15:
		return fmt.Sprintf("INSERT INTO tree VALUES (%d, %d, 1)", n(400), n(400))
	case 16:
		return fmt.Sprintf("DELETE FROM tree WHERE id = %d", n(400))
	case 17:
		return fmt.Sprintf("DELETE FROM egg WHERE id = %d", n(120))
	case 18:
		return fmt.Sprintf("INSERT INTO hen VALUES (%d, %d)", n(120), n(120))
	case 19:
		return fmt.Sprintf("UPDATE hen SET id = %d WHERE id = %d", n(120), n(120))
	default:
		return fmt.Sprintf("INSERT INTO egg VALUES (%d, %d)", n(120), n(120))
	}
}

// moveFamily copies and streams the tables under random writes of two sessions, with the worker stopped and its connections
// killed in between, and compares rows and definitions.
func moveFamily(t *testing.T, src, dst *replicationtest.Server, schema ...string) {
	t.Helper()
	var chunks, retried, written atomic.Int64
	kill := make(chan struct{}, 2)
	c := newClusterOn(t, src, dst, migrate.Options{Stream: replication.Options{ChunkRows: 60, Readers: 3, Trace: replication.Trace{
		ChunkCommitted: func(replication.ChunkInfo) {
			if n := chunks.Add(1); n == 10 || n == 20 {
				kill <- struct{}{}
			}
		},
		ChunkRetried: func(context.Context, replication.ChunkInfo, error) { retried.Add(1) },
	}}}, schema...)
	ctx, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	db, err := sql.Open("mysql", src.DSN(c.db))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	writers := make(chan error, 2)
	for i := range uint64(2) {
		go func() { writers <- writeFamily(ctx, db, seed+i, &written) }()
	}
	c.create(migrate.CreateOptions{})
	stop := c.run(c.m)
	<-kill
	stop()
	stop = c.run(c.m)
	<-kill
	for _, s := range []*replicationtest.Server{dst, src} {
		for _, row := range s.MustQuery(t, "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND (db = '"+c.vt+"' OR command LIKE 'Binlog Dump%')") {
			_ = s.Exec(t.Context(), "KILL "+row[0])
		}
	}
	c.await(migrate.StateRunning)
	for from := written.Load(); written.Load() < from+100; {
		if err := c.workflow().WaitApplied(t.Context(), "0", c.position()); err != nil {
			t.Fatal(err)
		}
	}
	stopWriting()
	for range 2 {
		if err := <-writers; err != nil {
			t.Fatal(err)
		}
	}
	c.caughtUp()
	tables := strings.Fields(c.tables(src, c.db))
	c.equal(tables...)
	t.Logf("%d transactions, %d chunks, %d read again", written.Load(), chunks.Load(), retried.Load())
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: migrate.DropSourceTables, DryRun: true}); err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{}
	for _, name := range tables {
		wants[name] = c.definition(src, c.db, name)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: migrate.DropSourceTables}); err != nil {
		t.Fatal(err)
	}
	for name, want := range wants {
		if got := c.definition(dst, c.vt, name); got != want {
			t.Errorf("table %s is\n%s\non the target, was\n%s", name, got, want)
		}
	}
	if left := c.tables(src, c.db); left != "" {
		t.Errorf("tables %s are left on the source", left)
	}
	stop()
}

// definition is the text of CREATE TABLE, its lines sorted: keys that were added after the copy come last.
func (c *cluster) definition(s *replicationtest.Server, database, table string) string {
	c.t.Helper()
	rows := s.MustQuery(c.t, "SHOW CREATE TABLE "+database+"."+table)
	lines := strings.Split(rows[0][1], "\n")
	for i, l := range lines {
		if l = strings.TrimSuffix(l, ","); strings.HasPrefix(l, ") ENGINE") {
			l, _, _ = strings.Cut(l, " AUTO_INCREMENT")
		}
		lines[i] = l
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A source that logs what foreign keys do.
func TestForeignKeysLogged(t *testing.T) {
	src, dst := servers(t)
	moveFamily(t, src, dst, familySchema, treeSchema, circleSchema)
}

// A source that does not: the target's foreign keys do the same.
func TestForeignKeysNative(t *testing.T) {
	_, dst := servers(t)
	native := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--innodb-native-foreign-keys=ON"}})
	t.Run("to a server that logs them", func(t *testing.T) {
		moveFamily(t, native, dst, strings.Replace(familySchema, collatedUpdate, "ON DELETE SET NULL ON UPDATE SET NULL)", 1))
	})
	t.Run("to a server like the source", func(t *testing.T) { moveFamily(t, native, native, familySchema, treeSchema) })
	t.Run("refused", func(t *testing.T) { refuseFamily(t, native, dst) })
}

// refuseFamily wants each foreign key named whose changes nobody can know.
func refuseFamily(t *testing.T, src, dst *replicationtest.Server) {
	t.Helper()
	c := newClusterOn(t, src, dst, migrate.Options{Stream: replication.Options{CopyBytes: 4 << 20}}, familySchema, treeSchema, circleSchema, `
CREATE TABLE wood (id INT NOT NULL PRIMARY KEY, parent INT, v CHAR(250), CONSTRAINT root FOREIGN KEY (parent) REFERENCES wood (id) ON DELETE SET NULL);
INSERT INTO wood SELECT id, NULL, REPEAT('x', 250) FROM article; INSERT INTO wood SELECT id + 10000, NULL, v FROM wood;
INSERT INTO wood SELECT id + 100000, NULL, v FROM wood; INSERT INTO wood SELECT id + 1000000, NULL, v FROM wood; ANALYZE TABLE wood`)
	err := c.tryCreate(migrate.CreateOptions{AllTables: true})
	for object, text := range map[string]string{"egg": "circle", "hen": "circle", "wood": "copied at once", "tree": "gives up", "customer": "the spelling"} {
		if all := messages(err, object); !strings.Contains(all, text) {
			t.Errorf("findings of %s: %q, want %s", object, all, text)
		}
	}
	err = c.tryCreate(migrate.CreateOptions{Tables: []string{"basket", "article"}, DropForeignKeys: true})
	if f := finding(err, migrate.CodeForeignKey, "basket"); f == nil || !strings.Contains(f.Message, "references `customer`, which is not moved, and changes rows by itself") {
		t.Errorf("a parent that stays behind: %v", err)
	}
	if f := finding(err, migrate.CodeForeignKey, "article"); f == nil || !strings.Contains(f.Message, "the target needs it") {
		t.Errorf("DropForeignKeys: %v", err)
	}
	c.dst.MustExec(t, "CREATE DATABASE "+c.vt+"; USE "+c.vt+`;
CREATE TABLE tree (id INT NOT NULL PRIMARY KEY, parent INT, v INT, KEY up (parent));
CREATE TABLE mine (id INT NOT NULL PRIMARY KEY, tree INT, CONSTRAINT grows FOREIGN KEY (tree) REFERENCES tree (id) ON DELETE CASCADE)`)
	err = c.tryCreate(migrate.CreateOptions{Tables: []string{"tree"}})
	for _, want := range []string{"has other foreign keys", "`mine` on the target references table `tree`"} {
		if all := messages(err, "tree"); !strings.Contains(all, want) {
			t.Errorf("findings %q, want %s", all, want)
		}
	}
}

// messages are the findings about foreign keys of a table.
func messages(err error, table string) string {
	e, _ := errors.AsType[*migrate.PreflightError](err)
	if e == nil {
		return ""
	}
	all := ""
	for _, f := range e.Findings {
		if f.Code == migrate.CodeForeignKey && f.Object == table && f.Fix != "" {
			all += f.Message + "\n"
		}
	}
	return all
}

func TestDropForeignKeys(t *testing.T) {
	c := newCluster(t, migrate.Options{}, familySchema, treeSchema, circleSchema)
	want := "references `region`, which is not moved"
	if f := finding(c.tryCreate(migrate.CreateOptions{Tables: []string{"customer"}}), migrate.CodeForeignKey, "customer"); f == nil || !strings.Contains(f.Message, want) {
		t.Errorf("a parent that is not moved: %v", f)
	}
	c.run(c.m)
	c.create(migrate.CreateOptions{DropForeignKeys: true, ExcludeTables: []string{"region"}})
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "USE "+c.db+"; DELETE FROM customer WHERE id = 7; DELETE FROM region WHERE id = 5; UPDATE region SET id = 500 WHERE id = 6; DELETE FROM egg WHERE id < 20")
	c.caughtUp()
	c.equal("alias", "article", "audit", "basket", "customer", "egg", "hen", "tree")
	if n := one(t, c.dst, "SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = '"+c.vt+"'"); n != "0" {
		t.Errorf("%s foreign keys on the target", n)
	}
	if keys := c.keys(); !strings.Contains(keys, "basket.b_customer") || !strings.Contains(keys, "customer.name") {
		t.Errorf("keys on the target: %s", keys)
	}
	// The source's tables reference one another, and one that stays.
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: migrate.RenameSourceTables}); err != nil {
		t.Fatal(err)
	}
	if rest := c.tables(c.src, c.db); rest != "_alias_old _article_old _audit_old _basket_old _customer_old _egg_old _hen_old _tree_old region" {
		t.Errorf("tables on the source: %s", rest)
	}
	if def := c.definition(c.src, c.db, "_article_old"); !strings.Contains(def, "REFERENCES `_basket_old`") {
		t.Errorf("foreign keys do not follow: %s", def)
	}
}

// Servers of today create such foreign keys only when told to; those of before did.
func TestForeignKeyWithoutUniqueKey(t *testing.T) {
	c := newCluster(t, migrate.Options{}, `
SET SESSION restrict_fk_on_non_standard_key = OFF;
CREATE TABLE whole (id INT NOT NULL PRIMARY KEY, n INT NOT NULL, KEY n (n));
CREATE TABLE part (id INT NOT NULL PRIMARY KEY, whole INT NOT NULL, CONSTRAINT odd FOREIGN KEY (whole) REFERENCES whole (n));
INSERT INTO whole VALUES (1, 5), (2, 5); INSERT INTO part VALUES (1, 5);
SET SESSION restrict_fk_on_non_standard_key = DEFAULT`)
	c.create(migrate.CreateOptions{NoAutoStart: true})
	if got, want := c.definition(c.dst, c.vt, "part"), c.definition(c.src, c.db, "part"); got != want {
		t.Errorf("the table is\n%s\non the target, was\n%s", got, want)
	}
}
