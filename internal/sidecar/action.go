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
	return d.actions(ctx, "vrepl_id = ?", id)
}

// WorkflowActions lists the actions of all streams of the workflow that a stream belongs to: those of one table, or of all with "".
func (d *DB) WorkflowActions(ctx context.Context, id int64, table string) ([]Action, error) {
	where, args := "vrepl_id IN ("+d.siblings()+")", []any{id}
	if table != "" {
		where, args = where+" AND table_name = ?", append(args, table)
	}
	return d.actions(ctx, where, args...)
}

// siblings selects the streams of the workflow that the stream of a placeholder belongs to, that stream among them.
func (d *DB) siblings() string {
	streams := d.table("vreplication")
	return "SELECT o.id FROM " + streams + " o JOIN " + streams + " me ON o.workflow = me.workflow AND o.db_name = me.db_name WHERE me.id = ?"
}

func (d *DB) actions(ctx context.Context, where string, args ...any) ([]Action, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT vrepl_id, table_name, action FROM "+d.table("post_copy_action")+" WHERE "+where+" ORDER BY vrepl_id, table_name", args...)
	if err != nil {
		return nil, d.wrap("post copy actions", err)
	}
	defer rows.Close()
	var list []Action
	for rows.Next() {
		var a Action
		var text string
		if err := rows.Scan(&a.StreamID, &a.Table, &text); err != nil {
			return nil, d.wrap("post copy actions", err)
		}
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			return nil, d.wrap(fmt.Sprintf("post copy action of table %s", a.Table), err)
		}
		list = append(list, a)
	}
	return list, d.wrap("post copy actions", rows.Err())
}

// IsLast tells whether it is up to a stream to do a table's action: of several streams of the workflow that fill the table, and so have the
// same action, the last one does it. IsLast deletes the stream's action if another one still has it.
func (d *DB) IsLast(ctx context.Context, id int64, table string) (last bool, err error) {
	action := d.table("post_copy_action")
	err = d.tx(ctx, func(tx *sql.Tx) error {
		last = false
		// Locks are taken in the order of the key, so that two streams that are done at the same moment wait for one another.
		rows, err := tx.QueryContext(ctx, "SELECT vrepl_id FROM "+action+" WHERE table_name = ? AND vrepl_id IN ("+d.siblings()+") ORDER BY vrepl_id FOR UPDATE", table, id)
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
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || !mine {
			return err
		}
		if !others {
			last = true
			return nil
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM "+action+" WHERE vrepl_id = ? AND table_name = ?", id, table)
		return err
	})
	return last, d.wrap("hand over a post copy action", err)
}

// DeletePostCopyAction deletes a table's action once it is done; it may be gone already.
func (d *DB) DeletePostCopyAction(ctx context.Context, id int64, table string) error {
	_, err := d.db.ExecContext(ctx, "DELETE FROM "+d.table("post_copy_action")+" WHERE vrepl_id = ? AND table_name = ?", id, table)
	return d.wrap("delete post copy action", err)
}
