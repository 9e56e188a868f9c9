// Package mysqlerr says what an error of a MySQL or MariaDB server, or of the way to it, means.
//
// Errors arrive from two drivers; [Code] reads the server's number from both. One table holds which
// numbers are worth another try ([Transient]), per [Side]: a full disk or a read-only server is
// trouble of a target that ends by itself, a purged log position is the end on a source.
//
//	if mysqlerr.Transient(err, mysqlerr.Source) {
//		// wait and connect again
//	}
package mysqlerr
