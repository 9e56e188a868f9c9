package migrate

import (
	"fmt"
	"strings"
)

// maxName is the longest part of a workflow or source name, in bytes.
const maxName = 64

// A WorkflowName says which workflow of which target keyspace, "commerce.wf" as text.
type WorkflowName struct {
	Keyspace, Workflow string
}

// ParseWorkflowName reads "keyspace.workflow". The error is a *NameError.
func ParseWorkflowName(s string) (WorkflowName, error) {
	ks, wf, err := splitName("workflow", "keyspace.workflow", s)
	return WorkflowName{Keyspace: ks, Workflow: wf}, err
}

// String is the form that ParseWorkflowName reads.
func (n WorkflowName) String() string { return n.Keyspace + "." + n.Workflow }

// lockName is the name of the topology lock that commands on the workflow take, as in Vitess.
func (n WorkflowName) lockName() string { return n.Keyspace + "/" + n.Workflow }

// A SourceName says which keyspace of which mounted cluster, "ext1.load" as text.
type SourceName struct {
	Mount, Keyspace string
}

// ParseSourceName reads "mount.keyspace". The error is a *NameError.
func ParseSourceName(s string) (SourceName, error) {
	m, ks, err := splitName("source", "mount.keyspace", s)
	return SourceName{Mount: m, Keyspace: ks}, err
}

// String is the form that ParseSourceName reads.
func (n SourceName) String() string { return n.Mount + "." + n.Keyspace }

// splitName cuts s at its only dot and checks both parts.
func splitName(kind, form, s string) (first, second string, err error) {
	bad := func(reason string) error { return &NameError{Kind: kind, Form: form, Text: s, Reason: reason} }
	first, second, ok := strings.Cut(s, ".")
	if !ok {
		return "", "", bad("there is no dot")
	}
	for _, part := range []string{first, second} {
		if reason := badPart(part); reason != "" {
			return "", "", bad(reason)
		}
	}
	return first, second, nil
}

// badPart says what is wrong with one part of a name. The parts become path elements of topology
// keys and lock names, so what has a meaning there is refused.
func badPart(s string) string {
	switch {
	case s == "":
		return "a part is empty"
	case len(s) > maxName:
		return fmt.Sprintf("a part is longer than %d bytes", maxName)
	}
	for _, r := range s {
		switch {
		case r == '.':
			return "there is more than one dot"
		case r <= ' ' || r == 0x7f || strings.ContainsRune("/\\,'\"`", r):
			return fmt.Sprintf("the character %q is not allowed", r)
		}
	}
	return ""
}
