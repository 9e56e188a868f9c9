package mount

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tablehaul/tablehaul/topo"
)

// Type says how a cluster is known.
type Type string

// The types.
const (
	Vitess Type = topo.ExternalVitess // by its topology
	MySQL  Type = topo.ExternalMySQL  // by the addresses of its servers
)

// Cluster is a cluster outside this topology.
type Cluster struct {
	// Name is what workflows call it: in "ext1.shop" it is ext1. Letters, digits, - and _; at most 64 bytes.
	Name string
	Type Type
	// Topo is the global topology of a Vitess cluster. Server may be empty where the implementation has only
	// one, as the memory topology does.
	Topo topo.Address
	// Hosts are the addresses of MySQL or MariaDB servers, "host:port": one primary and, as one likes, its
	// replicas, in any order.
	Hosts []string
}

// String returns the cluster for people.
func (c Cluster) String() string {
	if c.Type == MySQL {
		return fmt.Sprintf("%s (%s %s)", c.Name, c.Type, strings.Join(c.Hosts, ", "))
	}
	return fmt.Sprintf("%s (%s %s)", c.Name, c.Type, c.Topo)
}

// clone returns a cluster that shares nothing with c.
func (c Cluster) clone() Cluster {
	c.Hosts = slices.Clone(c.Hosts)
	return c
}

// validate tells everything but the name that keeps c from being opened.
func (c Cluster) validate() error {
	var errs []error
	switch c.Type {
	case Vitess:
		errs = append(errs, validateTopo(c.Topo))
		if len(c.Hosts) > 0 {
			errs = append(errs, &ConfigError{Field: "Hosts", Value: shown(strings.Join(c.Hosts, ",")), Reason: "a vitess cluster is known by its topology"})
		}
	case MySQL:
		errs = append(errs, validateHosts(c.Hosts))
		if c.Topo != (topo.Address{}) {
			errs = append(errs, &ConfigError{Field: "Topo", Value: shown(c.Topo.String()), Reason: "a mysql cluster has no topology"})
		}
	default:
		errs = append(errs, &ConfigError{Field: "Type", Value: string(c.Type), Reason: "it is neither vitess nor mysql"})
	}
	return errors.Join(errs...)
}

// validateName tells whether a new mount may have the name, which has to survive in "mount.keyspace".
func validateName(name string) error {
	bad := func(reason string) error {
		return &topo.NameError{Kind: "external cluster", Name: name, Reason: reason}
	}
	if name == "" {
		return bad("it is empty")
	}
	if len(name) > 64 {
		return bad("it is longer than 64 bytes")
	}
	for _, r := range name {
		if r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) || r == unicode.ReplacementChar {
			return bad(fmt.Sprintf("it holds %q; letters, digits, - and _ are allowed", r))
		}
	}
	return nil
}

func validateTopo(a topo.Address) error {
	errs := []error{checkText("Topo.Type", a.Type), checkText("Topo.Root", a.Root)}
	if a.Server != "" || a.Type == "etcd2" {
		errs = append(errs, checkText("Topo.Server", a.Server))
	}
	return errors.Join(errs...)
}

// checkText refuses what is empty, what a person can't see, and what may hold a password.
func checkText(field, value string) error {
	switch {
	case value == "":
		return &ConfigError{Field: field, Reason: "it is empty"}
	case strings.Contains(value, "@"):
		return &ConfigError{Field: field, Value: shown(value), Reason: "it holds an @; users and passwords are not stored"}
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return &ConfigError{Field: field, Value: value, Reason: "it holds white space or control characters"}
	}
	return nil
}

// shown is a value as an error may print it: what stands before an @ may be a password.
func shown(value string) string {
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		return "***" + value[i:]
	}
	return value
}

func validateHosts(hosts []string) error {
	if len(hosts) == 0 {
		return &ConfigError{Field: "Hosts", Reason: "there is none"}
	}
	var errs []error
	for i, h := range hosts {
		err := checkText("Hosts", h)
		if err == nil {
			_, _, err = splitHost(h)
		}
		if err == nil && slices.Contains(hosts[:i], h) {
			err = &ConfigError{Field: "Hosts", Value: h, Reason: "it is there twice"}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// splitHost takes "host:port" apart.
func splitHost(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "", 0, &ConfigError{Field: "Hosts", Value: addr, Reason: "it is not of the form host:port"}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, &ConfigError{Field: "Hosts", Value: addr, Reason: fmt.Sprintf("port %q is not a number from 1 to 65535", text)}
	}
	return host, int(n), nil
}
