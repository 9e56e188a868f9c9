// Package rule is the language in which a workflow says what of a table it takes: a SELECT of one table that projects and
// filters.
//
//	select * from orders
//	select id, tenant as tenant_id, total from orders where tenant = 'acme' and not (state in ('draft', 'void'))
//
// The nouns:
//
//   - A [Rule] is the parsed text: the source's table, the columns and their new names, and a condition.
//   - A [Filter] is the condition bound to a table. Match decides about rows as they are in the binlog or a chunk; Where is the same as SQL
//     for the source's own SELECT.
//   - An [Asker] has the source's server compute what only it can: how a text compares by its collation.
//
// The picture:
//
//	text ── Parse ──► Rule ── Bind(table, ask) ──► Filter ── Match(rows) ──► which rows belong
//	                                                 │  └─ Where ──► SQL for chunks
//	                                                 └─ ask ──► STRCMP('Straße', 'strasse'), remembered by value
//
// A condition is made of AND, OR, NOT and parentheses over comparisons of one column with literals, in either order: =, <>, !=, <, <=, >,
// >=, <=>, [NOT] IN, [NOT] BETWEEN, IS [NOT] NULL, and [NOT] LIKE for text. NULL counts as in SQL: a row is taken if the condition is true,
// not if it is unknown. Times are UTC in TIMESTAMP columns, and as they are stored in DATETIME columns, before any conversion of zones.
//
// The verdict about a row is exactly the server's. What would need a conversion that is not exact here (a text column compared
// with a number, a number with '1e3', BINARY(4) with 'ab') is refused by name, as an [*UnsupportedError]; so are functions,
// joins, subqueries, GROUP BY, ORDER BY, LIMIT and expressions.
package rule
