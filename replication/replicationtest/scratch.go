package replicationtest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/internal/serverbin"
)

// scratch is a folder for one server. A lock in it, which ends with this process, tells
// later runs whether its owner is alive. The path is short: a Unix socket's may not be
// longer than 107 bytes.
type scratch struct {
	path   string
	unlock func()
}

const (
	scratchPrefix = "tablehaul-"
	ownerFile     = ".owner"
)

var sweepOnce sync.Once

func newScratch() (*scratch, error) {
	sweepOnce.Do(sweep)
	dir, err := os.MkdirTemp("", scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("server folder: %w", err)
	}
	unlock, ok, err := serverbin.TryLock(filepath.Join(dir, ownerFile))
	if err == nil && !ok {
		err = fmt.Errorf("%s is locked", dir)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("server folder: %w", err)
	}
	return &scratch{path: dir, unlock: unlock}, nil
}

func (s *scratch) file(name string) string { return filepath.Join(s.path, name) }

func (s *scratch) remove() error {
	if err := os.RemoveAll(s.path); err != nil {
		return fmt.Errorf("remove server folder: %w", err)
	}
	s.unlock()
	return nil
}

// sweep removes the folders of processes that were killed. Folders younger than a
// minute are left alone: their owner may not have locked them yet.
func sweep() {
	owners, err := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*", ownerFile))
	if err != nil {
		return
	}
	for _, f := range owners {
		st, err := os.Stat(f)
		if err != nil || time.Since(st.ModTime()) < time.Minute {
			continue
		}
		if unlock, ok, err := serverbin.TryLock(f); err == nil && ok {
			os.RemoveAll(filepath.Dir(f))
			unlock()
		}
	}
}

// copyTree copies a folder of plain files.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dst, 0o700)
		}
		return copyFile(path, dst)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
