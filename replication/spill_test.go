package replication_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func spilled(t *testing.T, changes ...replication.Change) *replication.Spill {
	t.Helper()
	s, err := replication.NewSpill(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range changes {
		if err := s.Append(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

func collect(t *testing.T, each func(func(replication.Change) error) error) []string {
	t.Helper()
	var list []string
	err := each(func(c replication.Change) error {
		list = append(list, fmt.Sprintf("%s %q %q %v %v %v %v", c.Table.Name, c.Before, c.After, c.Before == nil, c.After == nil,
			c.Cascade, c.Loose))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSpill(t *testing.T) {
	a, b := &replication.Table{Name: "a"}, &replication.Table{Name: "b"}
	big := replication.PackRow(make([]byte, 700_000))
	changes := []replication.Change{
		{Table: a, After: replication.PackRow([]byte("1"))},
		{Table: b, Before: replication.PackRow(nil), Cascade: true},
		{Table: a, Before: big, After: replication.PackRow(nil, []byte("")), Loose: true},
		{Table: b, Before: replication.Row{}, After: big, Loose: true},
	}
	memory := replication.Entry{Changes: changes}
	want := collect(t, memory.Each)
	s := spilled(t, changes...)
	entry := replication.Entry{Spill: s}
	for range 2 { // it can be read again
		if have := collect(t, entry.Each); !slices.Equal(have, want) {
			t.Fatalf("%d changes came back otherwise", len(have))
		}
	}
	if s.Len() != 4 || s.Bytes() != int64(2*len(big)+len(changes[0].After)+len(changes[1].Before)+len(changes[2].After)) {
		t.Errorf("it holds %d changes of %d bytes", s.Len(), s.Bytes())
	}
	if n := entry.Bytes(); n > 2<<20 {
		t.Errorf("the entry counts %d bytes of memory", n)
	}
	stop := errors.New("stop")
	if err := s.Each(func(replication.Change) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error became %v", err)
	}
	// What is cut off is gone, and what is appended after that comes after what is left.
	for n := 3; n >= 0; n-- {
		if err := s.Truncate(n); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(changes[3]); err != nil {
			t.Fatal(err)
		}
		if err := s.Each(func(replication.Change) error { return nil }); err == nil {
			t.Error("it was read while it was written")
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if have := collect(t, s.Each); !slices.Equal(have, append(want[:n:n], want[3])) || s.Len() != n+1 {
			t.Fatalf("after a cut to %d it holds %d", n, len(have))
		}
	}
}

// TestSpillKeepsEveryFlag sets the flags of a change one by one.
func TestSpillKeepsEveryFlag(t *testing.T) {
	table := &replication.Table{}
	for i := range reflect.TypeFor[replication.Change]().NumField() {
		c := replication.Change{Table: table, After: replication.PackRow(nil)}
		if f := reflect.ValueOf(&c).Elem().Field(i); f.Kind() == reflect.Bool {
			f.SetBool(true)
		}
		err := spilled(t, c).Each(func(have replication.Change) error {
			if !reflect.DeepEqual(have, c) {
				t.Errorf("%+v came back as %+v", c, have)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpillLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := replication.NewSpill(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(replication.Change{Table: &replication.Table{}, After: make(replication.Row, 1<<20)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Flush(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Each(func(replication.Change) error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed spill was read: %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
	if _, err := replication.NewSpill(dir + "/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
