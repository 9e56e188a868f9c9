package migrate

import (
	"errors"
	"strings"
	"testing"
)

func TestParseWorkflowName(t *testing.T) {
	n, err := ParseWorkflowName("commerce.wf")
	if err != nil || n.Keyspace != "commerce" || n.Workflow != "wf" || n.String() != "commerce.wf" {
		t.Fatalf("commerce.wf read as %+v, %v", n, err)
	}
	for _, bad := range []string{
		"", ".", "commerce", "commerce.", ".wf", "a.b.c", "a/b.c", "a.b c", "a.b'c", "a.`b`", "a.b\x00", "a.b\n", "a.../..", "a," + "b.c",
		"a." + strings.Repeat("x", 65),
	} {
		_, err := ParseWorkflowName(bad)
		named, ok := errors.AsType[*NameError](err)
		if !ok || named.Text != bad || named.Kind != "workflow" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	_, err = ParseSourceName("load")
	if want := `malformed source name "load": there is no dot; it looks like mount.keyspace`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
