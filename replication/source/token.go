package source

import "strings"

// tokenKind says what a token of a statement is.
type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	// tokenQuoted is a quoted identifier.
	tokenQuoted
	tokenString
	tokenOther
)

// A token is one word, name, string or sign of a statement.
type token struct {
	kind tokenKind
	// text is the word as written, the identifier without quotes, the string's raw content, or the sign.
	text string
}

// is tells whether t is the keyword, which is given in lower case.
func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

// in tells whether t is one of the keywords.
func (t token) in(keywords ...string) bool {
	for _, k := range keywords {
		if t.is(k) {
			return true
		}
	}
	return false
}

// isName tells whether t can name something.
func (t token) isName() bool { return t.kind == tokenWord || t.kind == tokenQuoted }

// Bits of sql_mode that change how a statement is read.
const (
	modeANSIQuotes         = 1 << 2
	modeNoBackslashEscapes = 1 << 20
)

// A lexer splits a statement into tokens. Comments are left out, except those that the server executes (/*! */).
type lexer struct {
	s    string
	mode uint64
	// executable is set inside of /*! */.
	executable bool
	// broken is set when a quote or comment does not end.
	broken bool
}

// next returns the next token; at the end one of kind tokenEnd.
func (l *lexer) next() token {
	l.space()
	if l.s == "" {
		return token{}
	}
	c := l.s[0]
	switch {
	case c == '`':
		return l.quoted('`', tokenQuoted, false)
	case c == '"' && l.mode&modeANSIQuotes != 0:
		return l.quoted('"', tokenQuoted, false)
	case c == '"', c == '\'':
		return l.quoted(c, tokenString, l.mode&modeNoBackslashEscapes == 0)
	case isWordByte(c):
		n := 1
		for n < len(l.s) && isWordByte(l.s[n]) {
			n++
		}
		return l.cut(n, tokenWord)
	}
	return l.cut(1, tokenOther)
}

func (l *lexer) cut(n int, kind tokenKind) token {
	t := token{kind, l.s[:n]}
	l.s = l.s[n:]
	return t
}

// space skips space and comments.
func (l *lexer) space() {
	for l.s != "" {
		switch {
		case strings.IndexByte(" \t\r\n\v\f", l.s[0]) >= 0:
			l.s = l.s[1:]
		case l.s[0] == '#', strings.HasPrefix(l.s, "--") && (len(l.s) == 2 || l.s[2] <= ' '):
			_, l.s, _ = strings.Cut(l.s, "\n")
		case strings.HasPrefix(l.s, "/*!"):
			l.s = l.s[3:]
			l.executable = true
			for l.s != "" && l.s[0] >= '0' && l.s[0] <= '9' {
				l.s = l.s[1:]
			}
		case l.executable && strings.HasPrefix(l.s, "*/"):
			l.s, l.executable = l.s[2:], false
		case strings.HasPrefix(l.s, "/*"):
			_, rest, closed := strings.Cut(l.s[2:], "*/")
			l.s = rest
			l.broken = l.broken || !closed
		default:
			return
		}
	}
}

// quoted reads a quoted token; a doubled quote stands for one.
func (l *lexer) quoted(q byte, kind tokenKind, backslash bool) token {
	var b strings.Builder
	for i := 1; i < len(l.s); i++ {
		c := l.s[i]
		switch {
		case c == '\\' && backslash && i+1 < len(l.s):
			b.WriteByte(c)
			i++
			b.WriteByte(l.s[i])
		case c == q && i+1 < len(l.s) && l.s[i+1] == q:
			b.WriteByte(q)
			i++
		case c == q:
			l.s = l.s[i+1:]
			return token{kind, b.String()}
		default:
			b.WriteByte(c)
		}
	}
	l.broken, l.s = true, ""
	return token{kind, b.String()}
}

// isWordByte tells whether a byte can be part of a word: letters, digits, _, $ and all of UTF-8 beyond ASCII.
func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// tokens reads a whole statement; ok is false if a quote or comment in it does not end.
func tokens(statement string, mode uint64) (list []token, ok bool) {
	l := lexer{s: statement, mode: mode}
	for {
		t := l.next()
		if t.kind == tokenEnd {
			return list, !l.broken
		}
		list = append(list, t)
	}
}
