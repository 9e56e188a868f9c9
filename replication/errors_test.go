package replication_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func TestTransient(t *testing.T) {
	lost := &replication.TransientError{Err: io.ErrUnexpectedEOF}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.ErrUnexpectedEOF, false},
		{replication.ErrFenced, false},
		{lost, true},
		{fmt.Errorf("shard -80: %w", lost), true},
		{errors.Join(io.EOF, lost), true},
		{&replication.RowError{Table: "t", Err: io.EOF}, false},
		{&replication.RowError{Table: "t", Err: lost}, true},
	} {
		if got := replication.Transient(tt.err); got != tt.want {
			t.Errorf("Transient(%v) = %v", tt.err, got)
		}
	}
	if !errors.Is(lost, io.ErrUnexpectedEOF) || lost.Error() != io.ErrUnexpectedEOF.Error() {
		t.Errorf("%v hides its cause", lost)
	}
}

func TestErrorTexts(t *testing.T) {
	at := parsePosition(t, uuidA+":1-5")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&replication.SchemaChangedError{Table: "t", What: "column c is bigint, was int"}, "table t: schema changed: column c is bigint, was int"},
		{
			&replication.DriftError{Table: "t", Key: "(id=1)", Op: "update", Position: at, Before: "(id=1, v=2)", After: "(id=1, v=3)"},
			"table t: update of (id=1): no such row on the target; before (id=1, v=2); after (id=1, v=3); at MySQL56/" + uuidA + ":1-5",
		},
		{
			&replication.DriftError{Table: "t", Key: "(id=1)", Op: "insert", Position: at, After: "(id=1)", Err: io.EOF},
			"table t: insert of (id=1): EOF; after (id=1); at MySQL56/" + uuidA + ":1-5",
		},
		{&replication.StoppedAtDDLError{Statement: "ALTER TABLE t ADD c INT"}, "stopped before a schema change: ALTER TABLE t ADD c INT"},
		{&replication.RowError{Table: "t", Column: "c", Err: io.EOF}, "table t, column c: EOF"},
		{&replication.RowError{Table: "t", Err: io.EOF}, "table t: EOF"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q\nwant %q", got, tt.want)
		}
	}
	if !errors.Is(&replication.DriftError{Err: io.EOF}, io.EOF) || !errors.Is(&replication.RowError{Err: io.EOF}, io.EOF) {
		t.Error("a cause is hidden")
	}
	long := replication.StoppedAtDDLError{Statement: strings.Repeat("x", 5000)}
	if got := long.Error(); len(got) > 1200 || !strings.HasSuffix(got, "...(+3976 bytes)") {
		t.Errorf("a long statement: %d bytes", len(got))
	}
}
