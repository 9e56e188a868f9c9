package serverbin

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseList(t *testing.T) {
	t.Parallel()
	got := parseList(`# a comment
deb http://one.example/debian bookworm main contrib # the main one
deb-src http://src.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/two.gpg] http://two.example/debian stable main
deb http://security.example/debian bookworm-security main
deb [ signed-by=/keys/v.gpg ] https://vendor.example/apt bookworm stable
deb https://other.example/ubuntu noble main
#deb http://off.example/debian bookworm main
deb
debris http://x.example bookworm main
`, "bookworm")
	want := []mirror{
		{uri: "http://one.example/debian", suite: "bookworm"},
		{uri: "http://two.example/debian", suite: "stable", keyring: "/keys/two.gpg"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseDeb822(t *testing.T) {
	t.Parallel()
	got := parseDeb822(`Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://one.example/debian
  http://two.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/one.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

types: deb
uris: https://vendor.example/x
suites: nodistro
components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
`, "bookworm")
	want := []mirror{
		{uri: "http://one.example/debian", suite: "bookworm", keyring: "/keys/one.gpg"},
		{uri: "http://two.example/debian", suite: "bookworm", keyring: "/keys/one.gpg"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMirrors(t *testing.T) {
	etc := t.TempDir()
	key := filepath.Join(etc, "key.gpg")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(etc, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key.gpg", "k")
	t.Setenv("TABLEHAUL_DEBIAN_MIRROR", "")
	if _, err := mirrors(etc, "bookworm"); !errors.Is(err, errNoMirror) {
		t.Errorf("without configuration: %v, want errNoMirror", err)
	}
	write("sources.list", "deb [signed-by="+key+"] http://a.example/debian bookworm main\n")
	write("sources.list.d/b.sources", "Types: deb\nURIs: http://a.example/debian http://b.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: "+key+"\n")
	got, err := mirrors(etc, "bookworm")
	want := []mirror{
		{uri: "http://a.example/debian", suite: "bookworm", keyring: key},
		{uri: "http://b.example/debian", suite: "bookworm", keyring: key},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
