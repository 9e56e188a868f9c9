package serverbin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes a script that says text.
func program(t *testing.T, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte("#!/bin/sh\necho '"+text+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	saysMySQL   = "/usr/sbin/mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)"
	saysMariaDB = "mysqld  Ver 10.11.18-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"
	saysEtcd    = "etcd Version: 3.4.23"
)

func TestFindOrder(t *testing.T) {
	path, other := t.TempDir(), t.TempDir()
	for _, v := range []string{"MYSQLD", "MARIADBD", "ETCD"} {
		t.Setenv(v, "")
	}
	t.Setenv("TABLEHAUL_CACHE", filepath.Join(other, "cache"))
	t.Setenv("PATH", path+":/bin:/usr/bin")

	program(t, path, "mysqld", saysMariaDB)
	_, err := Find(t.Context(), MySQL)
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || missing.Kind != MySQL || !errors.Is(err, ErrMissing) {
		t.Fatalf("a MariaDB in PATH under MySQL's name: %v, want a MissingError", err)
	}

	program(t, path, "mysqld", saysMySQL)
	b, err := Find(t.Context(), MySQL)
	if err != nil || b.Origin != "PATH" || b.Version != "8.4.3" {
		t.Fatalf("found %+v, %v", b, err)
	}
	if got := strings.Join(b.Command("--x"), " "); got != filepath.Join(path, "mysqld")+" --x" || b.PathArgs() != nil {
		t.Errorf("command = %s, %v", got, b.PathArgs())
	}

	t.Setenv("MYSQLD", program(t, other, "m", strings.ReplaceAll(saysMySQL, "8.4.3", "9.7.4")))
	if b, err = Find(t.Context(), MySQL); err != nil || b.Origin != "$MYSQLD" || b.Version != "9.7.4" {
		t.Errorf("found %+v, %v", b, err)
	}
	t.Setenv("MYSQLD", program(t, other, "m", saysMariaDB))
	if _, err = Find(t.Context(), MySQL); err == nil || errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "$MYSQLD") {
		t.Errorf("a MariaDB in $MYSQLD: %v, want an error that names the variable", err)
	}
	t.Setenv("MYSQLD", filepath.Join(other, "nosuch"))
	if _, err = Find(t.Context(), MySQL); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("a program that isn't there in $MYSQLD: %v", err)
	}

	t.Setenv("MARIADBD", program(t, other, "maria", saysMariaDB))
	if b, err = Find(t.Context(), MariaDB); err != nil || b.Version != "10.11.18" {
		t.Errorf("found %+v, %v", b, err)
	}
	t.Setenv("ETCD", program(t, other, "e", saysEtcd))
	if b, err = Find(t.Context(), Etcd); err != nil || b.Version != "3.4.23" {
		t.Errorf("found %+v, %v", b, err)
	}
}

func TestParseKind(t *testing.T) {
	t.Parallel()
	for _, k := range Kinds() {
		if got, err := ParseKind(string(k)); got != k || err != nil {
			t.Errorf("ParseKind(%q) = %q, %v", k, got, err)
		}
	}
	if _, err := ParseKind("oracle"); err == nil {
		t.Error("an unknown server is known")
	}
	if _, err := Find(t.Context(), "oracle"); err == nil {
		t.Error("an unknown server was found")
	}
}

func TestTryLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, ok, err := TryLock(path)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := TryLock(path); ok || err != nil {
		t.Errorf("a second lock: %v, %v", ok, err)
	}
	unlock()
	unlock, ok, err = TryLock(path)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	unlock()
	if _, _, err := TryLock(filepath.Join(path, "below", "a", "file")); err == nil {
		t.Error("a lock in a folder that isn't there")
	}
}
