// Package vttablet tells a vttablet of Vitess what has changed in its MySQL server behind its back: it looks for new tables by itself only every half
// an hour, and keeps ids of sequences in memory.
//
//	migrate ── tables, sequences ──► mysqld ◄── reads its schema ── vttablet ◄── ReloadSchema, ResetSequences ── this package
//
// It speaks the tablet manager's gRPC service without TLS, as vttablets do unless they are told otherwise. The requests are a few bytes, so there
// is no generated code.
//
//	if err := vttablet.ReloadSchema(ctx, "10.0.0.7:15999"); err != nil {
//		return err
//	}
package vttablet
