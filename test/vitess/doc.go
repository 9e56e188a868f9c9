// Package vitess proves the library against real Vitess clusters. It has tests only; `make vitess` in the
// repository's root runs them, and builds Vitess's programs first, from the Go module proxy, into the cache.
//
// Nouns: a cluster is one Vitess: cells, keyspaces, vttablets over throwaway MySQL servers, a vtctld and a vtgate. A lab
// has two of them, which are started when a test first asks for them:
//
//	east, the source                              west, the target
//	  shop    -80 (primary, replica)  80-           commerce  0 (primary, replica)
//	  legacy  0                                     customer  -80 (primary, replica)  80-
//	cells in two etcds                            cells zone1 and zone2
//
// TestVitess runs one subtest for each thing that must hold; they share the lab and come in any order:
//
//	go test -run TestVitess/vindexes -v
//
// It needs 4 GB of memory and, from built programs, about three minutes on two cores.
package vitess
