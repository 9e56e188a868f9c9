package migrate

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

const pastUUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func pastPosition(t *testing.T, gtids string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition("MySQL56/" + pastUUID + ":" + gtids)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// past is a definition of table t that the change with a number made; 0 is the first one.
func past(t *testing.T, number uint64) source.Definition {
	t.Helper()
	def := source.Definition{
		Table: &replication.Table{Name: "t", Columns: []replication.Column{
			{Name: "e", Kind: replication.KindEnum, Type: "enum('\u00e4')", Charset: "latin1", Members: []string{"\xe4", "plain"}}, {Name: "id", Kind: replication.KindInt, Type: "int"},
		}, Primary: replication.Index{Name: "PRIMARY", Columns: []int{1}, Exact: true}, Ordered: true},
		Read: pastPosition(t, "1-9"),
	}
	if number > 0 {
		var err error
		if def.Since, err = replication.ParseGTID(pastUUID + ":" + string(rune('0'+number))); err != nil {
			t.Fatal(err)
		}
		def.Table.Columns[1].Name += string(rune('0' + number))
	}
	return def
}

func TestChooseDefinition(t *testing.T) {
	var list []sidecar.Definition
	for _, n := range []uint64{0, 3, 6} {
		row, err := formatPast(past(t, n))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, row)
	}
	for _, tc := range []struct {
		positions []string
		want      uint64
		before    string
	}{
		{[]string{"1-2"}, 0, ""},
		{[]string{"1-3"}, 3, "id"},
		{[]string{"1-5", "1-2"}, 0, ""}, // one shard has not passed it
		{[]string{"1-6", "1-5"}, 3, "id"},
		{[]string{"1-6", "1-7"}, 6, "id3"},
	} {
		var positions []replication.Position
		for _, p := range tc.positions {
			positions = append(positions, pastPosition(t, p))
		}
		d := &definitions{at: make(map[string]*source.Definition)}
		before, err := d.choose(list, positions)
		if err != nil {
			t.Fatal(err)
		}
		if want := past(t, tc.want); !reflect.DeepEqual(*d.Get("t"), want) {
			t.Errorf("at %v: %+v, want %+v", tc.positions, d.Get("t"), want)
		}
		was := ""
		if before["t"] != nil {
			was = before["t"].Columns[1].Name
		}
		if was != tc.before {
			t.Errorf("at %v: before was %q, want %q", tc.positions, was, tc.before)
		}
	}
}

// What was taken of the target is of its own time, and is not taken again.
func TestDefinitionIsTakenOnce(t *testing.T) {
	var list []sidecar.Definition
	for _, n := range []uint64{0, 3} {
		def := past(t, n)
		if n > 0 {
			def.Read = replication.Position{}
		}
		row, err := formatPast(def)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, row)
	}
	d := &definitions{at: make(map[string]*source.Definition)}
	before, err := d.choose(list, []replication.Position{pastPosition(t, "1-5")})
	if err != nil || len(before) > 0 || !d.Get("t").Read.IsZero() || d.Get("t").Since.IsZero() {
		t.Errorf("before %v, %+v, %v", before, d.Get("t"), err)
	}
}

func TestDamagedDefinition(t *testing.T) {
	for _, row := range []sidecar.Definition{
		{Table: "t", Text: "no"},
		{Table: "t", Text: `{"table": {"Name": "other"}}`},
		{Table: "t", Text: `{"table": {"Name": "t"}, "members": {"7": ["YQ=="]}}`},
		{Table: "t", Text: `{"table": {"Name": "t"}}`, Since: "x"},
		{Table: "t", Text: `{"table": {"Name": "t"}}`, Read: "MySQL56/x"},
	} {
		d := &definitions{id: 5, at: make(map[string]*source.Definition)}
		_, err := d.choose([]sidecar.Definition{row}, nil)
		if e, ok := errors.AsType[*target.RecordError](err); !ok || e.StreamID != 5 {
			t.Errorf("%+v: %v", row, err)
		}
	}
}
