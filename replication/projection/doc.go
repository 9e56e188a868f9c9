// Package projection makes of a replication.Source another one, of which the tables have fewer rows, fewer columns and other names.
// Whatever is behind it, a Stream, a Fanout and their targets, sees only what is taken, under the target's names.
//
// The nouns:
//
//   - A [Spec] says what is taken of one table: columns and their names, the table's name, a [Filter] for rows.
//   - A [Table] is what follows from it: the table as the target has it, and what of its keys is lost. [Tables] makes them all, since foreign keys
//     lead from one to another.
//   - A [Source] is the Source behind them.
//
// The picture:
//
//	                     ┌ chunk rows ── Filter.Match ── columns ──┐
//	replication.Source ──┤                                         ├──► Source ──► Stream ──► Fanout ──► Target
//	                     └ changes: before and after, each for ────┘
//	                       itself: in→in is an update, out→in an
//	                       insert, in→out a delete, out→out nothing
//
// Exactness is not touched: what the log says about a row that is filtered out has no effect, and a chunk has no such row, at any
// point of the log. The identifying key stays, or gives way to another exact one of which all columns are taken, so keys and spans are those
// of the source. A change of columns that are not taken is no change.
//
//	tables, err := projection.Tables([]projection.Spec{{Table: orders, Name: "sales", Filter: tenant}, {Table: users}})
//	if err != nil {
//		return err
//	}
//	src := projection.New(from, tables, projection.Options{})
//	err = replication.NewStream(src, to, src.Tables(), replication.Options{}).Run(ctx)
package projection
