// Package sqltext is the one place where identifiers and values become SQL text.
//
// [Ident] quotes names. [AppendLiteral] writes a column's value, in the canonical form of a
// [replication.Row], as a literal that stores exactly that value; [AppendKeyLiteral] writes it as a literal to
// compare the column with, so that the column's own character set and collation decide.
//
// The text is meant for sessions with SET NAMES utf8mb4 or binary and a sql_mode without
// NO_BACKSLASH_ESCAPES and ANSI_QUOTES: in these character sets no byte of a longer character looks like a quote or a
// backslash.
//
//	q := append([]byte("INSERT INTO "), sqltext.Ident("load")...)
//	q, err := sqltext.AppendLiteral(append(q, " VALUES ("...), &t.Columns[0], value)
package sqltext
