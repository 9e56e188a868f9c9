package target

import (
	"strings"

	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// requalify replaces schema by database where a statement qualifies a name with it: `schema`.t becomes
// `database`.t. Strings and comments stay as they are; so does everything if the names are equal.
func requalify(statement, schema, database string, ansiQuotes bool) string {
	if schema == "" || schema == database {
		return statement
	}
	var out strings.Builder
	for rest := statement; rest != ""; {
		n := tokenLen(rest)
		token := rest[:n]
		rest = rest[n:]
		if strings.EqualFold(unquoteIdent(token, ansiQuotes), schema) && strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), ".") {
			token = sqltext.Ident(database)
		}
		out.WriteString(token)
	}
	return out.String()
}

// tokenLen is the length of the first token: a word, a quoted text, a comment, or one other byte.
func tokenLen(s string) int {
	switch {
	case s[0] == '`' || s[0] == '"' || s[0] == '\'':
		return quotedLen(s)
	case strings.HasPrefix(s, "/*"):
		if i := strings.Index(s[2:], "*/"); i >= 0 && !strings.HasPrefix(s, "/*!") {
			return i + 4
		}
		return 2 // what is in /*! */ is read as SQL
	case s[0] == '#' || strings.HasPrefix(s, "-- "):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i + 1
		}
		return len(s)
	case wordByte(s[0]):
		i := 1
		for i < len(s) && wordByte(s[i]) {
			i++
		}
		return i
	}
	return 1
}

// quotedLen is the length of a quoted token; all of s if it does not end.
func quotedLen(s string) int {
	q := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q != '`':
			i++
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return len(s)
}

func wordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '$' || b >= 0x80
}

// unquoteIdent is the name that a token stands for; "" if it is none.
func unquoteIdent(token string, ansiQuotes bool) string {
	q := token[0]
	switch {
	case q == '`' || q == '"' && ansiQuotes:
		if len(token) < 2 {
			return ""
		}
		return strings.ReplaceAll(token[1:len(token)-1], string([]byte{q, q}), string(q))
	case wordByte(q):
		return token
	}
	return ""
}
