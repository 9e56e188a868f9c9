package vitess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

// testLocks holds locks of the library while Vitess's commands want them, and the other way round.
func testLocks(t *testing.T, l *lab) {
	c := l.west()
	ts := c.topology(t)
	t.Run("keyspace", func(t *testing.T) {
		lock, err := ts.LockKeyspace(t.Context(), "commerce", topo.LockOptions{Action: "Migrate Create"})
		must(t, err)
		c.excluded(t, "SetKeyspaceDurabilityPolicy", "--durability-policy=semi_sync", "commerce")
		must(t, lock.Unlock(t.Context()))
		c.ctl(t, "SetKeyspaceDurabilityPolicy", "--durability-policy=semi_sync", "commerce")
	})
	t.Run("shard", func(t *testing.T) {
		lock, err := ts.LockShard(t.Context(), "commerce", "0", topo.LockOptions{Action: "test"})
		must(t, err)
		c.excluded(t, "PlannedReparentShard", "--new-primary", "zone2-101", "commerce/0")
		must(t, lock.Unlock(t.Context()))
	})
	t.Run("workflow", func(t *testing.T) {
		// Vitess takes a workflow's lock near the end of what it does to create it.
		c.ctl(t, "ApplySchema", "--ddl-strategy=direct", "--sql", "CREATE TABLE vmove (id BIGINT PRIMARY KEY)", "customer")
		before := c.ctl(t, "GetVSchema", "customer")
		c.ctl(t, "ApplyVSchema", "--vschema", `{"sharded": true, "vindexes": {"hash": {"type": "hash"}},
			"tables": {"vmove": {"column_vindexes": [{"column": "id", "name": "hash"}]}}}`, "customer")
		c.undo(t, "ApplyVSchema", "--vschema", before, "customer")
		m := newMover(t, ts)
		_, unlock, err := m.m.Workflow("commerce.vmove").Lock(t.Context(), "Migrate Create")
		must(t, err)
		move := []string{"MoveTables", "--workflow", "vmove", "--target-keyspace", "commerce"}
		ended := make(chan error, 1)
		go func() {
			_, err := c.tryCtl(t.Context(), append(move, "create", "--source-keyspace", "customer", "--tables", "vmove")...)
			ended <- err
		}()
		await(t, "Vitess to want the lock", func(ctx context.Context) error {
			locks, err := ts.Conn().List(ctx, "internal/named_locks/commerce/vmove/locks")
			if err == nil && len(locks) < 2 {
				err = fmt.Errorf("locks %v", locks)
			}
			return err
		})
		select {
		case err := <-ended:
			t.Errorf("MoveTables did not wait for our lock: %v", err)
		default:
		}
		must(t, unlock(t.Context()))
		must(t, <-ended)
		c.ctl(t, append(move, "cancel")...)
	})
	t.Run("vitess", func(t *testing.T) {
		// DeleteKeyspace locks the keyspace and then waits for a shard's lock, which is held here.
		c.ctl(t, "CreateKeyspace", "--durability-policy=none", "scratch")
		c.ctl(t, "CreateShard", "scratch/0")
		shard, err := ts.LockShard(t.Context(), "scratch", "0", topo.LockOptions{Action: "test"})
		must(t, err)
		deleted := make(chan error, 1)
		go func() {
			_, err := c.tryCtl(t.Context(), "DeleteKeyspace", "--recursive", "scratch")
			deleted <- err
		}()
		var locked *topo.LockedError
		await(t, "Vitess's lock", func(ctx context.Context) error {
			lock, err := ts.LockKeyspace(ctx, "scratch", topo.LockOptions{Action: "test", Try: true})
			if err == nil {
				return errors.Join(errors.New("not locked yet"), lock.Unlock(ctx))
			}
			if !errors.As(err, &locked) {
				t.Fatal(err)
			}
			return nil
		})
		if locked.Holder.Action != "DeleteKeyspace" {
			t.Errorf("the lock's holder is %+v", locked.Holder)
		}
		// The library's commands wait for it.
		m := newMover(t, ts)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.m.Workflow("scratch.wf").Create(ctx, migrate.CreateOptions{Source: "ext1.flat", AllTables: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Create under Vitess's lock: %v", err)
		}
		must(t, shard.Unlock(t.Context()))
		must(t, <-deleted)
	})
}

// excluded runs a command of Vitess that has to wait for a lock for longer than it may.
func (c *cluster) excluded(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := c.tryCtl(ctx, append([]string{"--action-timeout=3s"}, args...)...); err == nil || !strings.Contains(err.Error(), "DeadlineExceeded") {
		t.Errorf("%s did not wait for our lock: %s, %v", args[0], out, err)
	}
}
