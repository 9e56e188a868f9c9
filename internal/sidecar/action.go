package sidecar

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// An Action is what was put off until a table's rows are copied: keys to add.
type Action struct {
	StreamID int64  `json:"-"`
	Table    string `json:"-"`
	// Keys are added in one ALTER TABLE; those that are there already are left out.
	Keys []ActionKey `json:"keys"`
}

// An ActionKey is one key to add.
type ActionKey struct {
	// Name is the key's name.
	Name string `json:"name"`
	// Definition is its text in CREATE TABLE, such as "KEY `k` (`k`)".
	Definition string `json:"definition"`
	// ForeignKey is set if it is a foreign key; its name is the constraint's then.
	ForeignKey bool `json:"foreign_key,omitempty"`
}

// AddPostCopyAction records an action; one that is recorded for the table already is replaced.
func (d *DB) AddPostCopyAction(ctx context.Context, a Action) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = d.db.ExecContext(ctx, "INSERT INTO "+d.table("post_copy_action")+
		" (vrepl_id, table_name, action) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE action = VALUES(action)", a.StreamID, a.Table, string(text))
	return d.wrap("add post copy action", err)
}

// PostCopyActions lists a stream's actions, in the order of their tables' names.
func (d *DB) PostCopyActions(ctx context.Context, id int64) ([]Action, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT table_name, action FROM "+d.table("post_copy_action")+" WHERE vrepl_id = ? ORDER BY table_name", id)
	if err != nil {
		return nil, d.wrap("post copy actions", err)
	}
	defer rows.Close()
	var list []Action
	for rows.Next() {
		a := Action{StreamID: id}
		var text string
		if err := rows.Scan(&a.Table, &text); err != nil {
			return nil, d.wrap("post copy actions", err)
		}
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			return nil, d.wrap(fmt.Sprintf("post copy action of table %s", a.Table), err)
		}
		list = append(list, a)
	}
	return list, d.wrap("post copy actions", rows.Err())
}

// HandOver deletes a table's action of a stream if another stream of the workflow has it too, and tells whether: several streams
// that fill one table have the same action, and the last of them has to do it.
func (d *DB) HandOver(ctx context.Context, id int64, table string) (handed bool, err error) {
	action, streams := d.table("post_copy_action"), d.table("vreplication")
	err = d.tx(ctx, func(tx *sql.Tx) error {
		handed = false
		// Locks are taken in the order of the key, so that two streams that are done at the same moment wait for one another.
		rows, err := tx.QueryContext(ctx, "SELECT vrepl_id FROM "+action+" WHERE table_name = ? AND vrepl_id IN (SELECT o.id FROM "+streams+
			" o JOIN "+streams+" me ON o.workflow = me.workflow AND o.db_name = me.db_name WHERE me.id = ?) ORDER BY vrepl_id FOR UPDATE", table, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		mine, others := false, false
		for rows.Next() {
			var of int64
			if err := rows.Scan(&of); err != nil {
				return err
			}
			mine, others = mine || of == id, others || of != id
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || !mine || !others {
			return err
		}
		handed = true
		_, err = tx.ExecContext(ctx, "DELETE FROM "+action+" WHERE vrepl_id = ? AND table_name = ?", id, table)
		return err
	})
	return handed, d.wrap("hand over a post copy action", err)
}

// DeletePostCopyAction deletes a table's action once it is done; it may be gone already.
func (d *DB) DeletePostCopyAction(ctx context.Context, id int64, table string) error {
	_, err := d.db.ExecContext(ctx, "DELETE FROM "+d.table("post_copy_action")+" WHERE vrepl_id = ? AND table_name = ?", id, table)
	return d.wrap("delete post copy action", err)
}
