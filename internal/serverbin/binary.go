package serverbin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// Kind names a server program.
type Kind string

// The servers this package knows.
const (
	MySQL   Kind = "mysql"
	MariaDB Kind = "mariadb"
	Etcd    Kind = "etcd"
	// Mydumper is no server, but a dumper and loader (myloader) that make bench compares with.
	Mydumper Kind = "mydumper"
)

// Kinds lists every server that tests need; the tools of benchmarks are not among them.
func Kinds() []Kind { return []Kind{MySQL, MariaDB, Etcd} }

// ParseKind reads a kind's name; an unknown one is an error that lists the known ones.
func ParseKind(s string) (Kind, error) {
	if _, ok := recipes[Kind(s)]; ok {
		return Kind(s), nil
	}
	return "", fmt.Errorf("unknown server %q: want mysql, mariadb or etcd", s)
}

// recipe says how one server is recognised and where it comes from.
type recipe struct {
	env      string         // environment variable that names the program
	program  string         // name in PATH
	path     string         // path below a fetched root
	version  *regexp.Regexp // finds the version in the output of --version
	excludes string         // output of --version that unmasks another product
	wanted   string         // what a user is told to look for
	packages []string
	suites   []string // Debian suites to take the packages from, in order of preference
}

var recipes = map[Kind]recipe{
	MySQL: {
		env: "MYSQLD", program: "mysqld", path: "usr/sbin/mysqld",
		version: regexp.MustCompile(`Ver (\d+\.\d+\.\d+)`), excludes: "MariaDB",
		wanted:   "MySQL 9.7 (mysqld)",
		packages: []string{"mysql-server-core", "mysql-client-core"},
		suites:   []string{"unstable"},
	},
	MariaDB: {
		env: "MARIADBD", program: "mariadbd", path: "usr/sbin/mariadbd",
		version:  regexp.MustCompile(`Ver (\d+\.\d+\.\d+)-MariaDB`),
		wanted:   "MariaDB 10.11 (mariadbd)",
		packages: []string{"mariadb-server-core"},
		suites:   []string{"bookworm", ownSuite},
	},
	Etcd: {
		env: "ETCD", program: "etcd", path: "usr/bin/etcd",
		version:  regexp.MustCompile(`etcd Version: (\d+\.\d+\.\d+)`),
		wanted:   "etcd 3.4 (etcd)",
		packages: []string{"etcd-server"},
		suites:   []string{"bookworm", ownSuite},
	},
	Mydumper: {
		env: "MYDUMPER", program: "mydumper", path: "usr/bin/mydumper",
		version:  regexp.MustCompile(`mydumper v?(\d+\.\d+\.\d+)`),
		wanted:   "mydumper",
		packages: []string{"mydumper"},
		suites:   []string{ownSuite, "bookworm", "unstable"},
	},
}

// ErrMissing is matched by the error of [Find] when this machine has no such server.
// Remedy: fetch it, or name the program in the environment variable.
var ErrMissing = errors.New("server not found")

// MissingError says which server is missing and, in one line, how to get it.
type MissingError struct {
	Kind Kind
}

func (e *MissingError) Error() string {
	r := recipes[e.Kind]
	return fmt.Sprintf("%s not found: run `go run github.com/tablehaul/tablehaul/replication/replicationtest/servers fetch %s` (in the repository: `make servers`), or set $%s to the program",
		r.wanted, e.Kind, r.env)
}

// Is makes errors.Is(err, ErrMissing) hold.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }

// Binary is a server program that has been run once, for its version.
type Binary struct {
	Kind    Kind
	Version string // "9.7.4"
	Origin  string // "$MYSQLD", "PATH" or "cache"
	Path    string // the program itself
	Root    string // folder of a fetched server, "" for one of the machine's own

	loader []string // what stands before Path on the command line
}

// Command returns the command line that runs the server with args.
func (b *Binary) Command(args ...string) []string {
	argv := append([]string{}, b.loader...)
	argv = append(argv, b.Path)
	return append(argv, args...)
}

// PathArgs returns the options that tell a fetched database server where its own
// files are. They go before any other option but --no-defaults. A server of the
// machine's own needs none.
func (b *Binary) PathArgs() []string {
	if b.Root == "" {
		return nil
	}
	switch b.Kind {
	case MySQL, MariaDB:
		return []string{
			"--basedir=" + filepath.Join(b.Root, "usr"),
			"--lc-messages-dir=" + filepath.Join(b.Root, "usr/share/mysql"),
			"--character-sets-dir=" + filepath.Join(b.Root, "usr/share/mysql/charsets"),
			"--plugin-dir=" + filepath.Join(b.Root, "usr/lib/mysql/plugin"),
		}
	case Etcd, Mydumper:
	}
	return nil
}

// Tool returns the command line that runs another program of the same package, such as mysqldump of MySQL: one of the same
// folder for a fetched server, else one in PATH.
func (b *Binary) Tool(name string, args ...string) ([]string, error) {
	path := filepath.Join(b.Root, "usr/bin", name)
	if b.Root == "" {
		var err error
		if path, err = exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("a program that belongs to %s: %w", b.Path, err)
		}
	} else if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("a program that belongs to %s: %w", b.Path, err)
	}
	argv := append(append([]string{}, b.loader...), path)
	return append(argv, args...), nil
}

// ToolEnv returns the environment variables without which the programs of [Binary.Tool] don't find their files.
func (b *Binary) ToolEnv() []string {
	if b.Root == "" || b.Kind != Mydumper {
		return nil
	}
	return []string{"MARIADB_PLUGIN_DIR=" + filepath.Join(b.Root, "usr/lib", triplet(), "libmariadb3/plugin")}
}

// Find returns the first server of that kind that runs: the one that the environment
// variable names, the one in PATH, the one in the cache. A *[MissingError] when there
// is none; a variable that names something that doesn't run is an error of its own.
func Find(ctx context.Context, k Kind) (*Binary, error) {
	r, ok := recipes[k]
	if !ok {
		return nil, fmt.Errorf("unknown server %q", k)
	}
	if p := os.Getenv(r.env); p != "" {
		b, err := probe(ctx, &Binary{Kind: k, Path: p, Origin: "$" + r.env})
		if err != nil {
			return nil, fmt.Errorf("$%s: %w", r.env, err)
		}
		return b, nil
	}
	if p, err := exec.LookPath(r.program); err == nil {
		if b, err := probe(ctx, &Binary{Kind: k, Path: p, Origin: "PATH"}); err == nil {
			return b, nil
		}
	}
	dir, err := CacheDir()
	if err != nil {
		return nil, err
	}
	root := rootDir(dir, k)
	if _, err := os.Stat(filepath.Join(root, r.path)); err != nil {
		return nil, &MissingError{Kind: k}
	}
	return fetched(ctx, k, root)
}

// fetched describes the server unpacked in root.
func fetched(ctx context.Context, k Kind, root string) (*Binary, error) {
	b := &Binary{Kind: k, Path: filepath.Join(root, recipes[k].path), Origin: "cache", Root: root}
	var libs []string
	for _, dir := range []string{"usr/lib", "lib"} {
		d := filepath.Join(root, dir, triplet())
		if _, err := os.Stat(d); err == nil {
			libs = append(libs, d)
		}
	}
	for _, d := range libs {
		found, err := filepath.Glob(filepath.Join(d, "ld-linux*.so.*"))
		if err != nil {
			return nil, fmt.Errorf("loader in %s: %w", d, err)
		}
		if len(found) > 0 {
			b.loader = []string{found[0], "--library-path", strings.Join(libs, ":")}
			return probe(ctx, b)
		}
	}
	return nil, fmt.Errorf("%s: no loader below %s", k, root)
}

// probe runs the program for its version and makes sure that it is what its name says.
func probe(ctx context.Context, b *Binary) (*Binary, error) {
	r := recipes[b.Kind]
	args := []string{"--no-defaults", "--version"}
	if b.Kind == Etcd || b.Kind == Mydumper {
		args = args[1:]
	}
	argv := b.Command(args...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s --version: %w: %s", b.Path, err, firstLine(out))
	}
	if r.excludes != "" && strings.Contains(string(out), r.excludes) {
		return nil, fmt.Errorf("%s is not %s: %s", b.Path, b.Kind, firstLine(out))
	}
	m := r.version.FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("%s is not %s: %s", b.Path, b.Kind, firstLine(out))
	}
	b.Version = string(m[1])
	return b, nil
}

// CacheDir returns the cache folder; it need not exist.
func CacheDir() (string, error) {
	if d := os.Getenv("TABLEHAUL_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder: %w (set $TABLEHAUL_CACHE)", err)
	}
	return filepath.Join(d, "tablehaul"), nil
}

func rootDir(cache string, k Kind) string {
	return filepath.Join(cache, "servers", string(k)+"-"+runtime.GOARCH)
}

// triplet is Debian's multiarch folder of this architecture.
func triplet() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64-linux-gnu"
	case "arm64":
		return "aarch64-linux-gnu"
	default:
		return runtime.GOARCH + "-linux-gnu"
	}
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
