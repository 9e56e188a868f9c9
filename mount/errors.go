package mount

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/topo"
)

var (
	// ErrExists is what every [*ExistsError] is: choose another name, or unregister the cluster that has it.
	ErrExists = errors.New("mount exists already")
	// ErrNotFound is what every [*NotFoundError] is.
	ErrNotFound = errors.New("not found")
	// ErrClosed says that the Handle was closed.
	ErrClosed = errors.New("mount handle closed")
)

// ExistsError says that a cluster of that name is registered. Nothing was changed.
type ExistsError struct {
	Name string
	Type Type // of the cluster that is registered
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("mount %q exists already, as a cluster of type %s", e.Name, e.Type)
}

// Is makes errors.Is(err, ErrExists) true.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// NotFoundError says that something does not exist, and what does.
type NotFoundError struct {
	Kind    string // "mount", "keyspace", "shard" or "cell"
	Name    string
	Cluster string   // the mount in which it was looked for; empty for a mount
	Known   []string // the names that there are
}

func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q not found", e.Kind, e.Name)
	if e.Cluster != "" {
		fmt.Fprintf(&b, " in mount %q", e.Cluster)
	}
	if len(e.Known) == 0 {
		b.WriteString(" (there is none)")
		return b.String()
	}
	const most = 20
	shown := e.Known[:min(len(e.Known), most)]
	fmt.Fprintf(&b, " (known: %s", strings.Join(shown, ", "))
	if more := len(e.Known) - len(shown); more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	b.WriteString(")")
	return b.String()
}

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// InUseError says that workflows read from a mount. Complete or cancel them first.
type InUseError struct {
	Name      string
	Workflows []string // "keyspace.name"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("mount %q is in use by %s", e.Name, strings.Join(e.Workflows, ", "))
}

// ConfigError says that a field of a [Cluster] or of options can't be right; nothing was contacted or stored.
// Several may be joined.
type ConfigError struct {
	Field  string // e.g. "Hosts"
	Value  string // as it was given, without what may be a password
	Reason string
}

func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("bad %s: %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("bad %s %q: %s", e.Field, e.Value, e.Reason)
}

// Finding is one thing that is wrong with a cluster.
type Finding struct {
	// Server is the address of the server where there is one.
	Server string `json:"server,omitempty"`
	// Object is the keyspace or directory that the finding is about.
	Object string `json:"object,omitempty"`
	// Message says what was found, Fix what to do about it.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
	// Err is the error behind it where there is one; errors.Is and errors.As on the CheckError find it.
	Err error `json:"-"`
}

// String is one line: where, what, what to do.
func (f Finding) String() string {
	var b strings.Builder
	for _, where := range []string{f.Server, f.Object} {
		if where != "" {
			b.WriteString(where + ": ")
		}
	}
	b.WriteString(strings.ReplaceAll(f.Message, "\n", "; "))
	if f.Fix != "" {
		b.WriteString(" (fix: " + f.Fix + ")")
	}
	return b.String()
}

// CheckError says all that [Register] found wrong with a cluster, which is not registered. There is at least one
// finding.
type CheckError struct {
	Cluster  string
	Findings []Finding
}

func (e *CheckError) Error() string {
	if len(e.Findings) == 1 {
		return fmt.Sprintf("cluster %q: %s", e.Cluster, e.Findings[0])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %q: %d problems:", e.Cluster, len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Unwrap returns the errors behind the findings.
func (e *CheckError) Unwrap() []error {
	var errs []error
	for _, f := range e.Findings {
		if f.Err != nil {
			errs = append(errs, f.Err)
		}
	}
	return errs
}

// AccessError says that a MySQL server refused the user, the password, or a privilege.
type AccessError struct {
	Addr, User string
	Err        error // what the server said
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("mysql server %s: access denied for user %q: %v", e.Addr, e.User, cause(e.Err))
}

// Unwrap returns Err.
func (e *AccessError) Unwrap() error { return e.Err }

// UnreachableError says that no server answered at an address in time. The same call may succeed later.
type UnreachableError struct {
	Addr string // of a MySQL server, or the server of a topology
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("server %s unreachable: %v", e.Addr, cause(e.Err))
}

// Unwrap returns Err.
func (e *UnreachableError) Unwrap() error { return e.Err }

// ChangedError says that an endpoint is not what it was any more; [Handle.Endpoints] says what there is now.
type ChangedError struct {
	Addr   string
	Alias  topo.TabletAlias // zero in a mysql cluster
	Reason string
}

func (e *ChangedError) Error() string {
	if e.Alias.IsZero() {
		return fmt.Sprintf("server %s: %s", e.Addr, e.Reason)
	}
	return fmt.Sprintf("tablet %s (%s): %s", e.Alias, e.Addr, e.Reason)
}

// PrimariesError says that several servers of a mysql cluster accept writes, so that none of them is known to be
// the primary. Set read_only on all but one.
type PrimariesError struct {
	Cluster string
	Addrs   []string
}

func (e *PrimariesError) Error() string {
	return fmt.Sprintf("mount %q has %d servers with read_only off (%s); the primary can't be told", e.Cluster, len(e.Addrs), strings.Join(e.Addrs, ", "))
}

// cause is err without the layer that says again what the error around it says.
func cause(err error) error {
	if e, ok := err.(*mysqlconn.UnreachableError); ok { //nolint:errorlint // only the outermost layer repeats it
		return e.Err
	}
	if e, ok := err.(*mysqlconn.AccessDeniedError); ok { //nolint:errorlint // only the outermost layer repeats it
		return e.Err
	}
	return err
}
