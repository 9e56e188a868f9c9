package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// A createText is the text of SHOW CREATE TABLE, cut into its definitions. Nothing is printed anew:
// what is kept is kept verbatim.
type createText struct {
	// head is the text up to and with the opening parenthesis, tail the closing one and what follows.
	head, tail string
	// defs are the column, key and constraint definitions, trimmed.
	defs []definition
}

// A definition is one element of the parenthesised list of CREATE TABLE.
type definition struct {
	text string
	kind defKind
	// name is that of the column, key or constraint, unquoted; empty for the primary key.
	name string
	// columns are those of a key or the referencing ones of a foreign key; an expression is "".
	columns []string
	// refTable and refColumns are what a foreign key references, cascades whether it acts by itself
	// on the child's rows.
	refSchema, refTable string
	refColumns          []string
	cascades            bool
	// autoIncrement is set for the AUTO_INCREMENT column.
	autoIncrement bool
}

type defKind uint8

const (
	defColumn defKind = iota
	defPrimary
	defUnique
	defKey
	defFulltext
	defSpatial
	defForeignKey
	defCheck
	defOther
)

// parseCreate cuts the text of a SHOW CREATE TABLE. ansiQuotes says that the text was printed under
// sql_mode ANSI_QUOTES; the callers read it without.
func parseCreate(text string) (*createText, error) {
	bad := func(why string) error { return fmt.Errorf("CREATE TABLE text: %s: %.100q", why, text) }
	open := nextTop(text, 0, "(")
	if open < 0 {
		return nil, bad("no opening parenthesis")
	}
	c := &createText{head: text[:open+1]}
	for from := open + 1; ; {
		end := nextTop(text, from, ",)")
		if end < 0 {
			return nil, bad("no closing parenthesis")
		}
		d, err := parseDefinition(strings.TrimSpace(text[from:end]))
		if err != nil {
			return nil, bad(err.Error())
		}
		c.defs = append(c.defs, d)
		if text[end] == ')' {
			c.tail = text[end:]
			return c, nil
		}
		from = end + 1
	}
}

// nextTop is the index of the first byte of set at or after from that is outside quotes, comments
// and parentheses opened after from; -1 if there is none.
func nextTop(s string, from int, set string) int {
	depth := 0
	for i := from; i < len(s); {
		c := s[i]
		if depth == 0 && strings.IndexByte(set, c) >= 0 {
			return i
		}
		switch c {
		case '(':
			depth++
		case ')':
			depth--
			if depth < 0 {
				return -1
			}
		}
		i = skipToken(s, i)
	}
	return -1
}

// skipToken is the index after the token that starts at i: a quoted text, a comment, a word, or one byte.
func skipToken(s string, i int) int {
	switch c := s[i]; {
	case c == '`':
		return skipQuoted(s, i, false)
	case c == '\'' || c == '"':
		return skipQuoted(s, i, true)
	case strings.HasPrefix(s[i:], "/*"):
		if end := strings.Index(s[i+2:], "*/"); end >= 0 {
			return i + 2 + end + 2
		}
		return len(s)
	case isWord(c):
		for i < len(s) && isWord(s[i]) {
			i++
		}
		return i
	}
	return i + 1
}

func skipQuoted(s string, i int, backslash bool) int {
	q := s[i]
	for i++; i < len(s); i++ {
		switch {
		case s[i] == '\\' && backslash:
			i++
		case s[i] == q:
			if i+1 < len(s) && s[i+1] == q {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(s)
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// A tokens reads the tokens of one definition; blanks are skipped.
type tokens struct {
	s string
	i int
}

// next is the next token as written; empty at the end.
func (t *tokens) next() string {
	for t.i < len(t.s) && strings.IndexByte(" \t\r\n", t.s[t.i]) >= 0 {
		t.i++
	}
	if t.i >= len(t.s) {
		return ""
	}
	from := t.i
	t.i = skipToken(t.s, from)
	return t.s[from:t.i]
}

// peek is what next would return.
func (t *tokens) peek() string {
	i := t.i
	tok := t.next()
	t.i = i
	return tok
}

// name reads a quoted or bare identifier.
func (t *tokens) name() (string, error) {
	tok := t.next()
	if len(tok) >= 2 && tok[0] == '`' {
		return strings.ReplaceAll(tok[1:len(tok)-1], "``", "`"), nil
	}
	if tok == "" || !isWord(tok[0]) {
		return "", fmt.Errorf("identifier wanted, found %q", tok)
	}
	return tok, nil
}

// parts reads a parenthesised list of key parts and returns their column names; a part that is an
// expression gives "".
func (t *tokens) parts() ([]string, error) {
	if tok := t.next(); tok != "(" {
		return nil, fmt.Errorf("( wanted, found %q", tok)
	}
	var names []string
	for {
		name := ""
		if t.peek() != "(" {
			var err error
			if name, err = t.name(); err != nil {
				return nil, err
			}
		}
		names = append(names, name)
		end := nextTop(t.s, t.i, ",)")
		if end < 0 {
			return nil, fmt.Errorf("unclosed list of key parts")
		}
		t.i = end + 1
		if t.s[end] == ')' {
			return names, nil
		}
	}
}

func parseDefinition(text string) (definition, error) {
	d := definition{text: text}
	t := &tokens{s: text}
	first := t.peek()
	if strings.HasPrefix(first, "`") {
		return parseColumn(d, t)
	}
	var err error
	switch strings.ToUpper(t.next()) {
	case "PRIMARY":
		d.kind = defPrimary
		t.next() // KEY
		d.columns, err = keyParts(t)
		return d, err
	case "UNIQUE":
		d.kind = defUnique
		t.next()
	case "KEY", "INDEX":
		d.kind = defKey
	case "FULLTEXT":
		d.kind = defFulltext
		t.next()
	case "SPATIAL":
		d.kind = defSpatial
		t.next()
	case "CONSTRAINT":
		return parseConstraint(d, t)
	case "FOREIGN":
		return parseForeignKey(d, t)
	default:
		d.kind = defOther
		return d, nil
	}
	if d.name, err = t.name(); err != nil {
		return d, err
	}
	d.columns, err = keyParts(t)
	return d, err
}

// keyParts skips an index type before the parts.
func keyParts(t *tokens) ([]string, error) {
	for tok := t.peek(); tok != "(" && tok != ""; tok = t.peek() {
		t.next()
	}
	return t.parts()
}

func parseColumn(d definition, t *tokens) (definition, error) {
	name, err := t.name()
	d.kind, d.name = defColumn, name
	for tok := t.next(); tok != ""; tok = t.next() {
		if strings.EqualFold(tok, "AUTO_INCREMENT") {
			d.autoIncrement = true
		}
	}
	return d, err
}

func parseConstraint(d definition, t *tokens) (definition, error) {
	name, err := t.name()
	if err != nil {
		return d, err
	}
	d.name = name
	switch strings.ToUpper(t.next()) {
	case "FOREIGN":
		return parseForeignKey(d, t)
	case "CHECK":
		d.kind = defCheck
	default:
		d.kind = defOther
	}
	return d, nil
}

// parseForeignKey reads what follows FOREIGN.
func parseForeignKey(d definition, t *tokens) (definition, error) {
	d.kind = defForeignKey
	t.next() // KEY
	var err error
	if d.columns, err = keyParts(t); err != nil {
		return d, err
	}
	if tok := t.next(); !strings.EqualFold(tok, "REFERENCES") {
		return d, fmt.Errorf("REFERENCES wanted, found %q", tok)
	}
	if d.refTable, err = t.name(); err != nil {
		return d, err
	}
	if t.peek() == "." {
		t.next()
		d.refSchema = d.refTable
		if d.refTable, err = t.name(); err != nil {
			return d, err
		}
	}
	if d.refColumns, err = t.parts(); err != nil {
		return d, err
	}
	d.cascades = acts(t)
	return d, nil
}

// acts reads ON DELETE and ON UPDATE clauses and tells whether one changes the child's rows.
func acts(t *tokens) bool {
	found := false
	for tok := t.next(); tok != ""; tok = t.next() {
		if !strings.EqualFold(tok, "ON") {
			continue
		}
		t.next() // DELETE or UPDATE
		switch strings.ToUpper(t.next()) {
		case "CASCADE", "SET":
			found = true
		}
	}
	return found
}

// without is the statement without the definitions for which drop is true.
func (c *createText) without(drop func(definition) bool) string {
	var kept []string
	for _, d := range c.defs {
		if !drop(d) {
			kept = append(kept, "  "+d.text)
		}
	}
	return c.head + "\n" + strings.Join(kept, ",\n") + "\n" + c.tail
}

// withoutForeignKeys is the table without its foreign keys; the keys that serve them stay.
func (c *createText) withoutForeignKeys() *createText {
	out := &createText{head: c.head, tail: c.tail}
	for _, d := range c.defs {
		if d.kind != defForeignKey {
			out.defs = append(out.defs, d)
		}
	}
	return out
}

// autoIncrement is the name of the AUTO_INCREMENT column; empty if there is none.
func (c *createText) autoIncrement() string {
	for _, d := range c.defs {
		if d.autoIncrement {
			return d.name
		}
	}
	return ""
}

// withoutAutoIncrement is the table whose ids are given out elsewhere: no column counts, and there is no counter in the table's options.
func (c *createText) withoutAutoIncrement() *createText {
	out := &createText{head: c.head, defs: slices.Clone(c.defs), tail: c.tail}
	for i, d := range out.defs {
		if d.autoIncrement {
			out.defs[i].text, out.defs[i].autoIncrement = cutWord(d.text, "AUTO_INCREMENT"), false
		}
	}
	out.tail = cutWord(c.tail, "AUTO_INCREMENT")
	return out
}

// cutWord is a definition, or a list of options, without a word that is outside of quotes and comments, the blanks before it, and the value after it if
// it is given one by =.
func cutWord(s, word string) string {
	t := &tokens{s: s}
	for {
		from := t.i
		tok := t.next()
		if tok == "" {
			return s
		}
		if !strings.EqualFold(tok, word) {
			continue
		}
		if t.peek() == "=" {
			t.next()
			t.next()
		}
		rest := s[t.i:]
		if rest != "" && strings.IndexByte(" \t\r\n", rest[0]) < 0 {
			rest = " " + rest
		}
		return s[:from] + rest
	}
}

// kinds are the definitions of one kind.
func (c *createText) kinds(kind defKind) []definition {
	var out []definition
	for _, d := range c.defs {
		if d.kind == kind {
			out = append(out, d)
		}
	}
	return out
}

// identity is the name of the key that tells rows apart when there is no primary key: identifying is
// chosen elsewhere; here it is only kept.
//
// deferrable tells which keys can be added after the rows are copied: the secondary keys, but not
// the one named identity, nor one that holds the AUTO_INCREMENT column up, nor one that a foreign key
// needs (needed are the column lists of foreign keys of other tables that reference this one).
// FULLTEXT and SPATIAL keys stay too: adding one blocks writes to the table for as long as it takes,
// and the stream with them, and it would save nothing: with 100,000 rows the server's CPU time was the same either way.
func (c *createText) deferrable(identity string, needed [][]string) func(definition) bool {
	auto := c.autoIncrement()
	for _, d := range c.kinds(defPrimary) {
		if strings.EqualFold(d.columns[0], auto) {
			auto = ""
		}
	}
	for _, d := range c.kinds(defForeignKey) {
		needed = append(needed, d.columns)
	}
	return func(d definition) bool {
		if d.kind != defKey && d.kind != defUnique {
			return false
		}
		if identity != "" && strings.EqualFold(d.name, identity) || auto != "" && strings.EqualFold(d.columns[0], auto) {
			return false
		}
		for _, columns := range needed {
			if servesForeignKey(d.columns, columns) {
				return false
			}
		}
		return true
	}
}

// servesForeignKey tells whether a key may be the one that a foreign key on columns uses: its first
// parts are those columns, in any order.
func servesForeignKey(key, columns []string) bool {
	if len(key) < len(columns) {
		return false
	}
	for _, c := range columns {
		found := false
		for _, k := range key[:len(columns)] {
			found = found || strings.EqualFold(k, c)
		}
		if !found {
			return false
		}
	}
	return true
}
