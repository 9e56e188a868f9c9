package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/go-sql-driver/mysql"
)

// writeUntil changes the tables a, b and c of TestStreamUnderLoad at random until stop is closed: inserts, updates,
// deletes, changes of keys, swaps of unique values, several statements in a transaction, rollbacks.
func writeUntil(ctx context.Context, db *sql.DB, stop <-chan struct{}) error {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 7))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(4) {
			if err := writeOne(ctx, tx, rnd, n); err != nil {
				_ = tx.Rollback()
				return err
			}
		}
		end := tx.Commit
		if rnd.IntN(20) == 0 {
			end = tx.Rollback
		}
		if err := end(); err != nil {
			return err
		}
	}
}

func writeOne(ctx context.Context, tx *sql.Tx, rnd *rand.Rand, n int) error {
	id, other := 1+rnd.IntN(3300), 1+rnd.IntN(3300)
	name, tenant := fmt.Sprintf("Näme%d", 3*rnd.IntN(1000)), rnd.IntN(7)
	var statements []string
	args := [][]any{}
	add := func(q string, a ...any) { statements, args = append(statements, q), append(args, a) }
	switch rnd.IntN(12) {
	case 0, 1:
		add("INSERT IGNORE INTO shop.a (k, c, u) VALUES (?, ?, ?)", n%89, fmt.Sprintf("new %d", n), 100_000+n)
	case 2, 3:
		add("UPDATE shop.a SET k=k+1, c=CONCAT('changed ', ?) WHERE id=?", n, id)
	case 4:
		add("DELETE FROM shop.a WHERE id=?", id)
	case 5:
		add("UPDATE IGNORE shop.a SET id=? WHERE id=?", other, id)
	case 6: // two rows trade their unique values
		add("UPDATE shop.a x JOIN shop.a y ON x.id=? AND y.id=? SET x.c=x.u, y.c=y.u, x.u=NULL", id, other)
		add("UPDATE shop.a x JOIN shop.a y ON x.id=? AND y.id=? AND x.id<>y.id SET y.u=x.c WHERE x.u IS NULL AND x.c REGEXP '^[0-9]+$'", id, other)
		add("UPDATE shop.a x JOIN shop.a y ON x.id=? AND y.id=? AND x.id<>y.id SET x.u=y.c WHERE x.u IS NULL AND y.c REGEXP '^[0-9]+$'", id, other)
	case 7:
		add("INSERT INTO shop.b VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE v=v+1", tenant, name, rnd.IntN(1000))
	case 8: // the same key to the server, other bytes
		add("UPDATE shop.b SET name=UPPER(name) WHERE tenant=? AND name=?", tenant, name)
	case 9:
		add("DELETE FROM shop.b WHERE tenant=? AND name=?", tenant, name)
	case 10:
		add("UPDATE shop.c SET d=NOW(6), f=f*1.1, j=JSON_SET(j, '$.n', ?) WHERE id=UNHEX(LPAD(HEX(?), 16, '0'))", n, 3*rnd.IntN(1000)<<8)
	default:
		add("REPLACE INTO shop.c VALUES (UNHEX(LPAD(HEX(?), 16, '0')), NOW(6), ?, JSON_ARRAY(?, 'x', NULL))", rnd.IntN(5000)<<8, rnd.Float64(), n)
	}
	for i := range statements {
		if _, err := tx.ExecContext(ctx, statements[i], args[i]...); err != nil && !duplicate(err) {
			return fmt.Errorf("%s: %w", statements[i], err)
		}
	}
	return nil
}

// duplicate tells that a random statement hit a unique key, which is the writer's own affair.
func duplicate(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1062
}
