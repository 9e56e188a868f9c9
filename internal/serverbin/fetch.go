package serverbin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Fetch returns the server that [Find] finds, and fetches it into the cache when
// there is none. Two fetches at once wait for one another; a fetch that is
// interrupted leaves nothing that a later Find would take for a server. A nil log
// discards.
func Fetch(ctx context.Context, k Kind, log *slog.Logger) (*Binary, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b, err := Find(ctx, k)
	if err == nil || !errors.Is(err, ErrMissing) {
		return b, err
	}
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("fetching works on Linux only: %w", err)
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cache, "servers"), 0o755); err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, "servers", string(k)+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if b, err := Find(ctx, k); err == nil {
		return b, nil
	}
	return fetch(ctx, k, cache, log)
}

// fetch tries every archive and suite in turn. The caller holds the lock.
func fetch(ctx context.Context, k Kind, cache string, log *slog.Logger) (*Binary, error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is needed to fetch %s (set $%s to a server instead): %w", tool, k, recipes[k].env, err)
		}
	}
	places, err := mirrors("/etc/apt", codename())
	if err != nil {
		return nil, err
	}
	var failures []error
	tried := map[mirror]bool{}
	for _, suite := range recipes[k].suites {
		for _, m := range places {
			if suite != ownSuite {
				m.suite = suite
			}
			if tried[m] {
				continue
			}
			tried[m] = true
			log.Info("fetching server", "server", string(k), "suite", m.suite)
			b, err := fetchFrom(ctx, k, cache, m)
			if err == nil {
				log.Info("fetched server", "server", string(k), "version", b.Version, "root", b.Root)
				return b, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			failures = append(failures, fmt.Errorf("suite %s: %w", m.suite, err))
		}
	}
	return nil, fmt.Errorf("fetch %s: %w", k, errors.Join(failures...))
}

// fetchFrom downloads into a scratch folder beside the final one and renames at the end.
func fetchFrom(ctx context.Context, k Kind, cache string, m mirror) (*Binary, error) {
	// One name, so that what a killed fetch has left goes away.
	scratch := rootDir(cache, k) + ".fetch"
	if err := os.RemoveAll(scratch); err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	debs, err := download(ctx, filepath.Join(scratch, "apt"), m, recipes[k].packages)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(scratch, "root")
	for _, deb := range debs {
		if err := run(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return nil, err
		}
	}
	// What is there must run before it is given its name.
	if _, err := fetched(ctx, k, root); err != nil {
		return nil, err
	}
	final := rootDir(cache, k)
	if err := os.RemoveAll(final); err != nil {
		return nil, fmt.Errorf("remove old server: %w", err)
	}
	if err := os.Rename(root, final); err != nil {
		return nil, fmt.Errorf("install server: %w", err)
	}
	return fetched(ctx, k, final)
}

// download gets packages with all they depend on, checked against the archive's
// signature, with an apt state of its own below dir that knows of no installed
// package. It returns the files.
func download(ctx context.Context, dir string, m mirror, packages []string) ([]string, error) {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "log", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("apt folder: %w", err)
		}
	}
	conf := filepath.Join(dir, "etc/apt.conf")
	files := map[string]string{
		filepath.Join(dir, "status"):           "",
		filepath.Join(dir, "etc/sources.list"): fmt.Sprintf("deb [signed-by=%s] %s %s main\n", m.keyring, m.uri, m.suite),
		conf:                                   aptConf(dir),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("apt configuration: %w", err)
		}
	}
	if err := run(ctx, "apt-get", "-c", conf, "-q", "update"); err != nil {
		return nil, err
	}
	args := append([]string{"-c", conf, "-q", "-y", "--no-install-recommends", "--download-only", "install"}, packages...)
	if err := run(ctx, "apt-get", args...); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "cache/archives/*.deb"))
	if err != nil {
		return nil, fmt.Errorf("downloaded packages: %w", err)
	}
	if len(debs) == 0 {
		return nil, errors.New("apt-get downloaded nothing")
	}
	slices.Sort(debs)
	return debs, nil
}

// aptConf points apt at folders of our own and drops the machine's hooks, which
// would touch the machine's own cache. The machine's proxy settings stay.
func aptConf(dir string) string {
	return fmt.Sprintf(`#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
};
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Cache::archives "archives/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "%[1]s/log";
Dir::Etc::sourcelist "%[1]s/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Architectures { "%[2]s"; };
APT::Architecture "%[2]s";
APT::Install-Suggests "false";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
`, dir, runtime.GOARCH)
}

// run runs a program; its error carries the last lines of what the program said.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
		return fmt.Errorf("%s %s: %w: %s", name, args[len(args)-1], err, strings.Join(lines[max(0, len(lines)-3):], " | "))
	}
	return nil
}
