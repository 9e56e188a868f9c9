package replicationtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Folders of killed processes go away, those of living ones and young ones stay.
func TestSweep(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	alive, err := newScratch()
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	folder := func(name string, age time.Time) string {
		t.Helper()
		dir := filepath.Join(tmp, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ownerFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, ownerFile), age, age); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dead, young := folder(scratchPrefix+"1", old), folder(scratchPrefix+"2", time.Now())
	other := folder("other-1", old)
	if err := os.Chtimes(alive.file(ownerFile), old, old); err != nil {
		t.Fatal(err)
	}
	sweep()
	for dir, want := range map[string]bool{alive.path: true, young: true, other: true, dead: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", dir, err == nil, want)
		}
	}
	if err := alive.remove(); err != nil {
		t.Fatal(err)
	}
}
