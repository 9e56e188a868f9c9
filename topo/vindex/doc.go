// Package vindex tells on which shard a row is. It does no I/O and knows no MySQL.
//
// The nouns:
//
//   - A [Vindex] computes a keyspace id from the values of a row's vindex columns. [New] makes it from the type and
//     parameters that a VSchema gives; all functional unique types of Vitess are there, see [Types].
//   - A [Value] is one such value: bytes in the encoding of MySQL's text protocol, and the [Class] of its column.
//   - A [Placement] says where a table's rows are: [Resolve] finds the table's primary vindex and its columns in the
//     VSchema, or says that the table has none because it is whole somewhere ([Kind]).
//
// The picture:
//
//	VSchema ── Resolve ──► Placement ─┬─ Sharded:   values ── Vindex.Map ──► id ── topo.Router ──► shard
//	                                  ├─ Pinned:    one id                      ── topo.Router ──► shard
//	                                  ├─ Reference: every shard
//	                                  └─ Unsharded: the one shard
//
// Ids are those of Vitess, byte for byte, so that a vtgate finds the rows. Where Vitess maps a value to nothing (NULL,
// or text that is no number, for a vindex of numbers) there is a [*ValueError]: no shard can hold the row. Negative numbers are such values
// for all vindexes of numbers but hash, as since Vitess 24; a vtgate refuses to insert them and does not find them by key.
//
// Three things differ on purpose. A FLOAT or DOUBLE column is refused, because its text is not the same in a query, in
// a result and in the binlog. The files of numeric_static_map and region_json are read only if the program says how
// ([Options]). And a key that a numeric_static_map spells twice ("1" and "01") is refused, instead of one of the two
// winning by chance.
//
//	p, err := vindex.Resolve(vschema, "orders", vindex.Options{})
//	if err != nil {
//		return err
//	}
//	id, err := p.Vindex.Map(buf[:0], []vindex.Value{{Class: vindex.Signed, Bytes: []byte("42")}})
//	if err != nil {
//		return err
//	}
//	shard := router.Route(id)
package vindex
