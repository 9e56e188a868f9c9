// Package vitess proves the library against real Vitess clusters. It has tests only; `make vitess` in the
// repository's root runs them, and builds Vitess's programs first, from the Go module proxy, into the cache.
//
// Nouns: a cluster is one Vitess: cells, keyspaces, vttablets over throwaway MySQL servers, a vtctld and a vtgate. A lab
// has two of them, which are started when a test first asks for them:
//
//	east, the source                              west, the target
//	  shop    -80 (primary, replica)  80-           commerce  0 (primary, replica)
//	  legacy  0                                     customer  -80 (primary, replica)  80-
//	cells in two etcds                            cells zone1 and zone2; commerce is semi-synchronous
//
// TestVitess runs one subtest for each thing that must hold; they share the lab:
//
//	vindexes          keyspace ids and shards of rows are those of vtgate, for every functional vindex; so are the refusals
//	locks             the library's locks and those of Vitess's commands exclude each other
//	records           Vitess reads what the library writes, and the other way round, mounts included; nothing gets lost
//	mounted vitess    keyspaces, shards and servers of a mounted Vitess
//	vitess source     out of a sharded Vitess, while a shard gets another primary and a tablet's server is killed
//	vitess to vitess  between differently sharded keyspaces, while both ends get other primaries; ids go on by a sequence
//	unsharded target  into a keyspace beside its vttablets, while it gets another primary, and the first one back
//	cancel            nothing is left of a move that was given up
//	sharded target    into two shards, of one of which the primary dies, of the other the vttablet
//	sequences         AUTO_INCREMENT becomes a sequence, which vtgate uses
//
// One of them alone, with the library's log and the errors of Vitess's programs:
//
//	VITESS_LOG=1 VITESS_BIN=~/.cache/tablehaul/vitess/v0.24.2 go test -run TestVitess/locks -v .
//
// It needs 4 GB of memory and two minutes on two cores.
package vitess
