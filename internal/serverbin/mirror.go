package serverbin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownSuite in a recipe stands for the suite the machine itself runs.
const ownSuite = ""

// mirror is one place where Debian packages come from.
type mirror struct {
	uri     string
	keyring string // file that signs it
	suite   string // the machine's own suite there
}

// errNoMirror: the machine's apt configuration names no Debian archive.
var errNoMirror = errors.New("no Debian archive in the apt configuration of this machine: set $TABLEHAUL_DEBIAN_MIRROR to one")

// mirrors returns the Debian archives that the apt configuration in etc (normally
// "/etc/apt") names for the release codename, in order, without duplicates. Entries
// of other vendors have another suite or no component "main". The environment
// variable TABLEHAUL_DEBIAN_MIRROR goes first.
func mirrors(etc, codename string) ([]mirror, error) {
	var entries []mirror
	if uri := os.Getenv("TABLEHAUL_DEBIAN_MIRROR"); uri != "" {
		entries = append(entries, mirror{uri: uri, suite: codename})
	}
	files := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("apt sources: %w", err)
		}
		files = append(files, found...)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("apt sources: %w", err)
		}
		if strings.HasSuffix(f, ".sources") {
			entries = append(entries, parseDeb822(string(text), codename)...)
		} else {
			entries = append(entries, parseList(string(text), codename)...)
		}
	}
	var out []mirror
	for _, m := range entries {
		if m.keyring = usableKeyring(m.keyring); m.keyring == "" {
			continue
		}
		if !slices.ContainsFunc(out, func(o mirror) bool { return o.uri == m.uri }) {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return nil, errNoMirror
	}
	return out, nil
}

// parseList reads the one-line format: deb [options] uri suite component...
func parseList(text, codename string) []mirror {
	var out []mirror
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		rest, ok := strings.CutPrefix(line, "deb")
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
			continue
		}
		rest = strings.TrimSpace(rest)
		var keyring string
		if opts, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(rest, "[") {
			for opt := range strings.FieldsSeq(strings.TrimPrefix(opts, "[")) {
				if v, ok := strings.CutPrefix(opt, "signed-by="); ok {
					keyring = v
				}
			}
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) < 3 || !ofRelease(f[1], codename) || !slices.Contains(f[2:], "main") {
			continue
		}
		out = append(out, mirror{uri: f[0], suite: f[1], keyring: keyring})
	}
	return out
}

// parseDeb822 reads the stanza format of *.sources files.
func parseDeb822(text, codename string) []mirror {
	var out []mirror
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		fields := map[string]string{}
		var name string
		for line := range strings.Lines(stanza) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
				fields[name] += " " + strings.TrimSpace(line)
			default:
				k, v, ok := strings.Cut(line, ":")
				if ok {
					name = strings.ToLower(strings.TrimSpace(k))
					fields[name] = strings.TrimSpace(v)
				}
			}
		}
		if enabled := strings.ToLower(fields["enabled"]); enabled == "no" || enabled == "false" {
			continue
		}
		if !slices.Contains(strings.Fields(fields["types"]), "deb") ||
			!slices.Contains(strings.Fields(fields["components"]), "main") {
			continue
		}
		for suite := range strings.FieldsSeq(fields["suites"]) {
			if !ofRelease(suite, codename) {
				continue
			}
			for uri := range strings.FieldsSeq(fields["uris"]) {
				out = append(out, mirror{uri: uri, suite: suite, keyring: fields["signed-by"]})
			}
		}
	}
	return out
}

// ofRelease tells whether suite is the main archive of the release, as opposed to its
// security or backports archive.
func ofRelease(suite, codename string) bool {
	suite = strings.TrimSuffix(suite, "/")
	return suite == codename || slices.Contains([]string{"stable", "testing", "unstable", "sid"}, suite)
}

// usableKeyring returns named when it is a file, else Debian's own keyring, else "".
func usableKeyring(named string) string {
	for _, f := range []string{
		named,
		"/usr/share/keyrings/debian-archive-keyring.gpg",
		"/usr/share/keyrings/debian-archive-keyring.pgp",
	} {
		if !filepath.IsAbs(f) {
			continue
		}
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() {
			return f
		}
	}
	return ""
}

// codename returns VERSION_CODENAME of /etc/os-release, "" when there is none.
func codename() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}
