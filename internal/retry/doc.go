// Package retry is the one place where this module waits for time to pass.
//
// A [Backoff] says how long to wait before the next attempt; [Wait] waits that long or until the
// context ends.
//
//	b := retry.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
//	for {
//		err := attempt(ctx)
//		if err == nil || !mysqlerr.Transient(err, mysqlerr.Source) {
//			return err
//		}
//		if err := retry.Wait(ctx, b.Next()); err != nil {
//			return err
//		}
//	}
package retry
