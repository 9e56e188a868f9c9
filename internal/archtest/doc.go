// Package archtest keeps the house in order: its tests read the source of this module and
// fail when a package imports what it may not know of.
//
//	topo <- mount <- migrate -> replication/{source,target} -> replication
//	                 vdiff   -> mount, replication, replication/source
//
// The table of allowed imports is in the test file; a new package needs a line there.
package archtest
