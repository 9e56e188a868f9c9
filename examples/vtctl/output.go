package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
)

// printJSON writes v, indented.
func printJSON(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// printError says why a command failed: one line, and one line per finding where checks found more
// than one thing; or one JSON object.
func printError(w io.Writer, command string, err error, asJSON bool) {
	if asJSON {
		_ = printJSON(w, errorObject{Error: oneLine(err.Error()), Findings: findings(err)})
		return
	}
	fmt.Fprintf(w, "vtctl %s: %s\n", command, strings.TrimSpace(err.Error()))
}

// An errorObject is a failure for machines.
type errorObject struct {
	Error    string `json:"error"`
	Findings any    `json:"findings,omitempty"`
}

// findings are what checks found, if it was checks that failed.
func findings(err error) any {
	if e, ok := errors.AsType[*migrate.PreflightError](err); ok {
		return e.Findings
	}
	if e, ok := errors.AsType[*mount.CheckError](err); ok {
		return e.Findings
	}
	return nil
}

// oneLine joins the lines of a text.
func oneLine(s string) string {
	var lines []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "; ")
}
