// Package mysqlerr says what an error of a MySQL or MariaDB server, or of the way to it, means.
//
// Errors arrive from two drivers; [Code] reads the server's number from both. One table (table.go) holds which
// numbers are worth another try ([Transient]), per [Side]:
//
//	                                                                      source      target
//	server stops, starts, is full of connections or offline               again       again
//	connection killed, reset, timed out; statement interrupted            again       again
//	host unreachable, name not resolved, no answer                        again       again
//	deadlock, lock wait, transaction given up for another                 again       again (at once, by replay)
//	read-only server or transaction                                       final       again (a failover goes on)
//	no disk, memory, files, undo or lock space                            again       again
//	definition changed under a read view                                  again       final
//	"unknown error", "internal error", a proxy's own trouble              again       again
//	user, password, privilege, certificate, no TLS                        final       final
//	binary log purged, another history                                    final       -
//	duplicate key, missing row                                            -           final (drift)
//	no such table or column, wrong value, syntax, packet too large        final       final
//	anything else                                                         final       final
//
// "Again" is with growing waits and only for so long; see package migrate. A read-only target is worth waiting for, since the topology will say
// soon who the primary is. A full disk is worth waiting for, since nothing but space is missing.
//
//	if mysqlerr.Transient(err, mysqlerr.Source) {
//		// wait and connect again
//	}
package mysqlerr
