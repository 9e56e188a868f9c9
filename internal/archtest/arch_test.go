package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tablehaul/tablehaul"

// allowed says, for every package, which packages of this module it may import. Test
// files may import more: see TestImports.
var allowed = map[string]string{
	".": "", // the module's doc.go

	"topo":            "internal/retry",
	"topo/memorytopo": "topo",
	"topo/etcdtopo":   "topo internal/retry",
	"topo/topotest":   "topo topo/memorytopo",
	"topo/vindex":     "topo",

	"mount": "topo replication/source internal/mysqlconn internal/mysqlerr internal/retry internal/sqltext",

	"replication":            "internal/retry",
	"replication/projection": "replication",
	"replication/source":     "replication internal/mysqlconn internal/mysqlerr internal/retry internal/sqltext",
	"replication/target":     "replication topo internal/mysqlconn internal/mysqlerr internal/retry internal/sidecar internal/sqltext",

	"replication/replicationtest":         "replication internal/serverbin",
	"replication/replicationtest/servers": "internal/serverbin",

	"migrate": "topo topo/memorytopo topo/etcdtopo topo/vindex mount migrate/routing migrate/rule replication replication/projection replication/source replication/target " +
		"internal/mysqlconn internal/mysqlerr internal/retry internal/sidecar internal/sqltext internal/vttablet",
	"migrate/routing": "replication topo topo/vindex",
	"migrate/rule":    "replication internal/sqltext",
	"vdiff": "topo mount replication replication/source " +
		"internal/mysqlconn internal/mysqlerr internal/retry internal/sidecar internal/sqltext",

	"internal/archtest":  "",
	"internal/golden":    "",
	"internal/mysqlconn": "internal/mysqlerr internal/retry",
	"internal/mysqlerr":  "",
	"internal/retry":     "",
	"internal/serverbin": "",
	"internal/sidecar":   "replication internal/mysqlconn internal/mysqlerr internal/retry internal/sqltext",
	"internal/sqltext":   "replication",
	"internal/vttablet":  "",
}

// reserved says which packages may import a path of another module or of the standard
// library, or anything below it, in files that aren't tests.
var reserved = map[string]string{
	"go.etcd.io/etcd":                  "topo/etcdtopo",
	"github.com/go-mysql-org/go-mysql": "replication/source replication/target internal/mysqlconn internal/mysqlerr",
	"google.golang.org/grpc":           "topo/etcdtopo internal/vttablet",
	"github.com/pingcap/errors":        "",
	"github.com/pingcap/log":           "",
	"github.com/pingcap/tidb":          "migrate/rule",
	"github.com/prometheus":            "",
	"github.com/go-sql-driver/mysql":   "internal/mysqlconn internal/mysqlerr replication/replicationtest",
	"testing":                          "topo/topotest replication/replicationtest",
	"database/sql":                     "mount migrate vdiff replication/source replication/target replication/replicationtest internal/mysqlconn internal/mysqlerr internal/sidecar",
	"os/exec":                          "internal/serverbin replication/replicationtest replication/replicationtest/servers",
	"os/signal":                        "replication/replicationtest/servers",
	"log":                              "",
	"net/http":                         "replication/replicationtest",
	"github.com/stretchr/testify":      "",
	"github.com/google/go-cmp":         "",
}

// file is one Go file's place and imports.
type file struct {
	name    string // "topo/server.go"
	pkg     string // "topo", "." for the module's folder
	test    bool
	imports []string
	doc     bool // it has a package comment
	pkgName string
}

// sources reads all Go files of this module; nested modules are others' business.
func sources(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, modErr := os.Stat(filepath.Join(p, "go.mod"))
			if p != root && (modErr == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		src := file{
			name: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"),
			doc: f.Doc != nil, pkgName: f.Name.Name,
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			src.imports = append(src.imports, name)
		}
		out = append(out, src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found %d files below %s", len(out), root)
	}
	return out
}

// ours returns the package's path below the module's, and whether it is in the module.
func ours(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

func TestImports(t *testing.T) {
	for _, f := range sources(t) {
		list, known := allowed[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no line in the table of allowed imports", f.name, f.pkg)
			continue
		}
		for _, imp := range f.imports {
			target, ok := ours(imp)
			if !ok || target == f.pkg || slices.Contains(strings.Fields(list), target) {
				continue
			}
			if f.test && mayInTest(f.pkg, target) {
				continue
			}
			t.Errorf("%s imports %s; package %s may import: %s", f.name, target, f.pkg, list)
		}
	}
}

// mayInTest says what test files may import on top of what their package may: public
// test kits, topologies to run on, both of its ends in replication's model test, and in routing's where rows come from. What
// wires everything is tested from the outside, in the nested module test.
func mayInTest(pkg, target string) bool {
	switch {
	case strings.HasSuffix(target, "test") && target != "internal/archtest":
		return true
	case target == "internal/golden", target == "topo/memorytopo", target == "internal/mysqlconn":
		return true
	case (pkg == "migrate/routing" || pkg == "migrate/rule") && target == "replication/source":
		return true
	case pkg == "migrate" && target == "vdiff": // which is what a user compares a workflow with
		return true
	case target == "topo/etcdtopo":
		return pkg != "replication" && !strings.HasPrefix(pkg, "replication/")
	}
	return pkg == "replication" && strings.HasPrefix(target, "replication/")
}

func TestReservedImports(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports {
			for prefix, users := range reserved {
				if imp != prefix && !strings.HasPrefix(imp, prefix+"/") {
					continue
				}
				if prefix == "log" && imp != "log" { // log/slog is what everybody uses
					continue
				}
				if !slices.Contains(strings.Fields(users), f.pkg) {
					t.Errorf("%s imports %s, which is for: %s", f.name, imp, users)
				}
			}
		}
	}
}

// A table that allows a circle would let the circle in one import at a time.
func TestAllowedHasNoCircle(t *testing.T) {
	const onPath, done = 1, 2
	state := map[string]int{}
	var visit func(pkg string, trail []string)
	visit = func(pkg string, trail []string) {
		trail = append(trail, pkg)
		switch state[pkg] {
		case onPath:
			t.Errorf("circle: %s", strings.Join(trail, " -> "))
			return
		case done:
			return
		}
		state[pkg] = onPath
		for _, next := range strings.Fields(allowed[pkg]) {
			if _, ok := allowed[next]; !ok {
				t.Errorf("%s may import %s, which has no line of its own", pkg, next)
			}
			visit(next, trail)
		}
		state[pkg] = done
	}
	for pkg := range allowed {
		visit(pkg, nil)
	}
}

// migrate and vdiff are at the top: only programs import them.
func TestNothingImportsTheTop(t *testing.T) {
	for pkg, list := range allowed {
		for _, top := range []string{"migrate", "vdiff"} {
			if slices.Contains(strings.Fields(list), top) {
				t.Errorf("%s may import %s", pkg, top)
			}
		}
	}
}

func TestPackagesHaveNamesAndDocs(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		documented[f.pkg] = documented[f.pkg] || f.doc && !f.test
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "mocks"}, strings.TrimSuffix(f.pkgName, "_test")) {
			t.Errorf("%s: package %s says nothing", f.name, f.pkgName)
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment (doc.go)", pkg)
		}
	}
}
