package source

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// statementKind says what a statement of the log means for the transaction it is in.
type statementKind uint8

const (
	// stmtOther changes neither rows nor definitions of tables, as far as is known: grants, routines, views.
	stmtOther statementKind = iota
	stmtBegin
	stmtCommit
	stmtRollback
	stmtSavepoint
	stmtRollbackTo
	stmtRelease
	stmtXAStart
	stmtXAEnd
	stmtXACommit
	stmtXARollback
	// stmtDDL changes the definition or the whole content of tables, stmtDML rows.
	stmtDDL
	stmtDML
)

// A tableName is a table as a statement names it.
type tableName struct{ schema, name string }

// A statement is what was found out about the text of a query event.
type statement struct {
	kind statementKind
	// tables are those that a stmtDDL changes, in its order. schemaDropped is the schema of a DROP DATABASE.
	tables        []tableName
	schemaDropped string
	// writes says that the statement may change rows of tables that it does not name.
	writes bool
	// replaces says that a stmtDDL removes or exchanges rows of its tables, which no row event tells.
	replaces bool
	// name is that of a savepoint, or the identifier of an XA transaction as xid writes it.
	name string
	// known is false if the statement could not be read: then any name in it may be a table's.
	known bool
	// split is false if not even the tokens are known.
	split bool
	text  string
	all   []token
}

// A tokenReader walks over the tokens of a statement.
type tokenReader struct {
	list []token
	at   int
}

func (r *tokenReader) peek() token {
	if r.at < len(r.list) {
		return r.list[r.at]
	}
	return token{}
}

func (r *tokenReader) next() token {
	t := r.peek()
	r.at++
	return t
}

// skip goes over the keywords if they are next.
func (r *tokenReader) skip(keywords ...string) bool {
	for i, k := range keywords {
		if r.at+i >= len(r.list) || !r.list[r.at+i].is(k) {
			return false
		}
	}
	r.at += len(keywords)
	return true
}

// table reads a table's name, with or without its schema.
func (r *tokenReader) table() (tableName, bool) {
	t := r.next()
	if !t.isName() {
		return tableName{}, false
	}
	if p := r.peek(); p.kind != tokenOther || p.text != "." {
		return tableName{name: t.text}, true
	}
	r.next()
	n := r.next()
	return tableName{schema: t.text, name: n.text}, n.isName()
}

// parseStatement reads the text of a query event.
func parseStatement(text string, sqlMode uint64) statement {
	list, ok := tokens(text, sqlMode)
	s := statement{known: ok, split: ok, text: text, all: list}
	if !ok {
		s.kind, s.writes = stmtDDL, true
		return s
	}
	r := &tokenReader{list: list}
	switch t := r.next(); {
	case t.in("begin"), t.is("start") && r.peek().is("transaction"):
		s.kind = stmtBegin
	case t.is("commit"):
		s.kind = stmtCommit
	case t.is("rollback"):
		s.rollback(r)
	case t.is("savepoint"):
		s.kind, s.name = stmtSavepoint, r.next().text
	case t.is("release"):
		s.kind = stmtRelease
	case t.is("xa"):
		s.xa(r)
	case t.is("create"):
		s.create(r)
	case t.is("alter"):
		s.alter(r)
	case t.is("drop"):
		s.drop(r)
	case t.is("rename"):
		s.rename(r)
	case t.is("truncate"):
		r.skip("table")
		s.replaces = true
		s.ddl(r.table())
	case t.in("insert", "replace", "update", "delete", "load", "with", "call", "do", "select"):
		s.kind, s.writes = stmtDML, true
	case t.in("grant", "revoke", "set", "flush", "analyze", "optimize", "repair", "check", "install", "uninstall",
		"import", "reset", "purge", "use", "signal", "kill", "lock", "unlock", "cache", "clone", "change", "stop"):
		s.kind = stmtOther
	default:
		s.kind, s.known, s.writes = stmtDDL, false, true
	}
	return s
}

func (s *statement) rollback(r *tokenReader) {
	s.kind = stmtRollback
	r.skip("work")
	if r.skip("to") {
		r.skip("savepoint")
		s.kind, s.name = stmtRollbackTo, r.next().text
	}
}

// ddl notes a table that the statement changes; ok is false if there should be a name and is none.
func (s *statement) ddl(t tableName, ok bool) {
	s.kind = stmtDDL
	if !ok {
		s.known = false
		return
	}
	s.tables = append(s.tables, t)
}

func (s *statement) create(r *tokenReader) {
	r.skip("or", "replace")
	switch t := r.next(); {
	case t.is("table"):
		r.skip("if", "not", "exists")
		s.ddl(r.table())
	case t.is("temporary"):
		s.kind = stmtOther
	case t.in("index", "unique", "fulltext", "spatial"):
		s.indexOn(r)
	case t.in("view", "algorithm", "definer", "sql", "procedure", "function", "trigger", "event", "database", "schema", "user",
		"role", "server", "tablespace", "undo", "logfile", "resource", "aggregate", "loadable", "library",
		"json", "external", "masking"):
		s.kind = stmtOther
	default:
		s.kind, s.known = stmtDDL, false
	}
}

// indexOn reads up to the table after ON.
func (s *statement) indexOn(r *tokenReader) {
	for t := r.next(); t.kind != tokenEnd; t = r.next() {
		if t.is("reference") { // CREATE SPATIAL REFERENCE SYSTEM
			s.kind = stmtOther
			return
		}
		if t.is("on") {
			break
		}
	}
	s.ddl(r.table())
}

func (s *statement) alter(r *tokenReader) {
	switch t := r.next(); {
	case t.is("table"):
		s.ddl(r.table())
		s.alterOthers(r)
	case t.in("view", "algorithm", "definer", "sql", "procedure", "function", "event", "database", "schema", "user",
		"server", "tablespace", "undo", "logfile", "instance", "resource", "library", "json", "role"):
		s.kind = stmtOther
	default:
		s.kind, s.known = stmtDDL, false
	}
}

// alterOthers finds the other tables that an ALTER TABLE changes (RENAME TO t, and EXCHANGE PARTITION .. WITH TABLE t),
// and what it does to rows.
func (s *statement) alterOthers(r *tokenReader) {
	for t := r.next(); t.kind != tokenEnd; t = r.next() {
		switch {
		case t.in("drop", "truncate") && r.peek().is("partition"), t.in("discard", "import") && r.peek().in("partition", "tablespace"):
			s.replaces = true
		case t.is("rename") && !r.peek().in("column", "index", "key"):
			if p := r.peek(); p.in("to", "as") || p.text == "=" {
				r.next()
			}
			s.replaces = true
			s.ddl(r.table())
		case t.is("with") && r.skip("table"):
			s.replaces = true
			s.ddl(r.table())
		}
	}
}

func (s *statement) drop(r *tokenReader) {
	switch t := r.next(); {
	case t.in("table", "tables"):
		r.skip("if", "exists")
		s.replaces = true
		for {
			s.ddl(r.table())
			if p := r.next(); p.text != "," || p.kind != tokenOther {
				return
			}
		}
	case t.is("index"):
		s.indexOn(r)
	case t.in("database", "schema"):
		r.skip("if", "exists")
		s.kind, s.replaces, s.schemaDropped = stmtDDL, true, r.next().text
	case t.in("temporary", "view", "procedure", "function", "trigger", "event", "user", "role", "server", "tablespace", "undo",
		"logfile", "resource", "spatial", "prepare", "library"):
		s.kind = stmtOther
	default:
		s.kind, s.known = stmtDDL, false
	}
}

func (s *statement) rename(r *tokenReader) {
	if t := r.next(); !t.in("table", "tables") {
		s.kind = stmtOther // RENAME USER
		return
	}
	s.replaces = true
	for {
		s.ddl(r.table())
		if !r.skip("to") {
			s.known = false
			return
		}
		s.ddl(r.table())
		if p := r.next(); p.text != "," || p.kind != tokenOther {
			return
		}
	}
}

// xa reads XA START, END, COMMIT and ROLLBACK, which the log has as XA COMMIT X'6162',X'63',1.
func (s *statement) xa(r *tokenReader) {
	switch t := r.next(); {
	case t.in("start", "begin"):
		s.kind = stmtXAStart
	case t.is("end"):
		s.kind = stmtXAEnd
	case t.is("commit"):
		s.kind = stmtXACommit
	case t.is("rollback"):
		s.kind = stmtXARollback
	default:
		s.kind, s.known = stmtDDL, false
		return
	}
	var parts [2]string
	format, n := uint64(1), 0
	for t := r.next(); t.kind != tokenEnd; t = r.next() {
		switch {
		case t.kind == tokenString && n < 2:
			parts[n] = t.text
			n++
			if r.at >= 2 && r.list[r.at-2].is("x") {
				if raw, err := hex.DecodeString(t.text); err == nil {
					parts[n-1] = string(raw)
				}
			}
		case t.kind == tokenWord:
			if f, err := strconv.ParseUint(t.text, 10, 32); err == nil {
				format = f
			}
		}
	}
	s.name = xid(uint32(format), parts[0], parts[1])
}

// xid names an XA transaction.
func xid(format uint32, gtrid, bqual string) string {
	return strconv.FormatUint(uint64(format), 10) + ":" + hex.EncodeToString([]byte(gtrid)) + ":" + hex.EncodeToString([]byte(bqual))
}

// keepsColumns tells whether the statement certainly leaves a table's columns and primary key as they are.
func (s *statement) keepsColumns() bool {
	primary := slices.ContainsFunc(s.all, func(t token) bool { return t.isName() && strings.EqualFold(t.text, "primary") })
	if s.kind != stmtDDL || !s.known || primary || len(s.all) < 2 {
		return false
	}
	if !s.all[0].is("alter") {
		return s.all[0].in("create", "drop") && s.all[1].in("index", "unique", "fulltext", "spatial")
	}
	r := &tokenReader{list: s.all, at: 2}
	if _, ok := r.table(); !ok {
		return false
	}
	depth, begins := 0, true
	for t := r.next(); t.kind != tokenEnd; t = r.next() {
		if begins && changesColumns(t, r.peek()) {
			return false
		}
		begins = false
		switch {
		case t.kind != tokenOther:
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case t.text == "," && depth == 0:
			begins = true
		}
	}
	return true
}

// changesColumns tells whether one of the changes of an ALTER TABLE, of which these are the first two words, may change columns.
func changesColumns(first, second token) bool {
	switch {
	case first.in("add", "drop"):
		return !second.in("index", "key", "unique", "fulltext", "spatial", "constraint", "foreign", "check", "partition")
	case first.is("rename"):
		return second.is("column")
	}
	return first.in("modify", "change", "convert")
}

// mentions tells whether any name in the statement is the given one; of a statement that could not be read, whether
// a string is it, too, and of one that could not even be split, whether it is anywhere in its text.
func (s *statement) mentions(fold bool, name string) bool {
	if !s.split {
		return strings.Contains(strings.ToLower(s.text), strings.ToLower(name))
	}
	for _, t := range s.all {
		if (t.isName() || !s.known && t.kind == tokenString) && sameName(fold, t.text, name) {
			return true
		}
	}
	return false
}

// sameName compares names of tables or schemas; fold says that the server ignores case.
func sameName(fold bool, a, b string) bool {
	return a == b || fold && strings.EqualFold(a, b)
}

// affected returns which of the opened tables, all of one schema, a statement changes: those that it names, or, if it
// could not be read or changes rows, those whose names are in it anywhere.
func (s *statement) affected(fold bool, defaultSchema, schema string, opened []string) []string {
	if s.kind != stmtDDL && s.kind != stmtDML {
		return nil
	}
	if s.schemaDropped != "" && sameName(fold, s.schemaDropped, schema) {
		return opened
	}
	var hit []string
	for _, name := range opened {
		if s.kind == stmtDML || !s.known {
			if s.mentions(fold, name) && (sameName(fold, defaultSchema, schema) || s.mentions(fold, schema)) {
				hit = append(hit, name)
			}
			continue
		}
		for _, t := range s.tables {
			in := t.schema
			if in == "" {
				in = defaultSchema
			}
			if sameName(fold, in, schema) && sameName(fold, t.name, name) {
				hit = append(hit, name)
				break
			}
		}
	}
	return hit
}
