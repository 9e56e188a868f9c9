package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// A report is what a whole run has measured; its JSON form is what -json writes.
type report struct {
	Began time.Time `json:"began"`
	CPUs  int       `json:"cpus"`
	Parts []*part   `json:"parts"`
}

// A part is one of the questions a to f, with one line for each way or case.
type part struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Settings []string `json:"settings"`
	Lines    []line   `json:"lines"`
	// Notes say what was left out, and how figures are to be read.
	Notes   []string `json:"notes"`
	columns []column
}

// A line holds the medians of one way, and each round's figures.
type line struct {
	Name   string    `json:"name"`
	Median figures   `json:"median"`
	Rounds []figures `json:"rounds,omitempty"`
}

// A column is a figure that the table shows.
type column struct {
	head, figure string
	digits       int
}

// processColumns are the CPU seconds of each process.
func processColumns(names ...string) []column {
	c := []column{{"wall s", "wall", 2}, {"CPU s", "cpu", 2}}
	for _, n := range names {
		c = append(c, column{n, "cpu " + n, 2})
	}
	return c
}

func (p *part) add(name string, rounds []figures) figures {
	m := median(rounds)
	p.Lines = append(p.Lines, line{Name: name, Median: m, Rounds: rounds})
	return m
}

func (p *part) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// ratios adds two figures to every line: wall time and CPU as parts of those of the line called base.
func (p *part) ratios(base string) {
	for _, b := range p.Lines {
		if b.Name != base {
			continue
		}
		wall, cpu := b.Median["wall"], b.Median["cpu"]
		for _, l := range p.Lines {
			l.Median["wall ratio"], l.Median["cpu ratio"] = l.Median["wall"]/wall, l.Median["cpu"]/cpu
		}
	}
	p.columns = append(p.columns, column{"wall x", "wall ratio", 2}, column{"CPU x", "cpu ratio", 2})
}

// print writes the part as a table. A figure that a line hasn't is a dash.
func (p *part) print(w io.Writer) {
	fmt.Fprintf(w, "\n(%s) %s\n", p.Name, p.Title)
	for _, s := range p.Settings {
		fmt.Fprintln(w, "   ", s)
	}
	width := 0
	for _, l := range p.Lines {
		width = max(width, len(l.Name))
	}
	fmt.Fprintf(w, "%-*s", width, "")
	for _, c := range p.columns {
		fmt.Fprintf(w, " %*s", max(9, len(c.head)), c.head)
	}
	fmt.Fprintln(w)
	for _, l := range p.Lines {
		fmt.Fprintf(w, "%-*s", width, l.Name)
		for _, c := range p.columns {
			text := "-"
			if v, ok := l.Median[c.figure]; ok {
				text = fmt.Sprintf("%.*f", c.digits, v)
			}
			fmt.Fprintf(w, " %*s", max(9, len(c.head)), text)
		}
		fmt.Fprintln(w)
	}
	for _, n := range p.Notes {
		fmt.Fprintln(w, "  *", n)
	}
}

// save writes the report as JSON.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
