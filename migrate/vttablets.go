package migrate

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/internal/vttablet"
	"github.com/tablehaul/tablehaul/topo"
)

// tellTimeout is how long a vttablet may take to read its schema; nothing depends on it.
const tellTimeout = 5 * time.Second

// tellTablets makes the vttablets of a keyspace read which tables they have, and its primaries forget the ids of sequences that they hold. It
// returns how many were told, and what is left to do by hand for the primaries that were not. A tablet record without a gRPC port is no vttablet's.
func (m *Migrator) tellTablets(ctx context.Context, keyspace string, sequences []string) (told int, byHand string, err error) {
	shards, err := m.topo.ServingShards(ctx, keyspace)
	if err != nil {
		return 0, "", topoError("serving shard of keyspace", keyspace, err)
	}
	var mu sync.Mutex
	var untold []string
	err = eachShard(shards, func(_ int, s *topo.Shard) error {
		tablets, err := m.topo.Tablets(ctx, keyspace, s.Name)
		if err != nil && len(tablets) == 0 {
			return fmt.Errorf("tablets of shard %s/%s: %w", keyspace, s.Name, err)
		}
		tablets = slices.DeleteFunc(tablets, func(t *topo.Tablet) bool { return t.Hostname == "" || t.PortMap["grpc"] == 0 })
		return eachShard(tablets, func(_ int, t *topo.Tablet) error {
			primary := t.Alias == s.PrimaryAlias
			var reset []string
			if primary {
				reset = sequences
			}
			err := tellTablet(ctx, t, reset)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				told++
			case primary:
				untold = append(untold, t.Alias.String())
				fallthrough
			default:
				m.log.Warn("a vttablet could not be told of new tables", "tablet", t.Alias.String(), "error", err)
			}
			return nil
		})
	})
	if len(untold) == 0 || err != nil {
		return told, "", err
	}
	slices.Sort(untold)
	byHand = fmt.Sprintf("%s can't be told of new tables: call vtctldclient ReloadSchemaKeyspace --include-primary %s", strings.Join(untold, ", "), keyspace)
	if len(sequences) > 0 {
		byHand += ", and restart the vttablet if a sequence was in use before"
	}
	return told, byHand, nil
}

func tellTablet(ctx context.Context, t *topo.Tablet, sequences []string) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	addr := net.JoinHostPort(t.Hostname, strconv.Itoa(int(t.PortMap["grpc"])))
	if err := vttablet.ReloadSchema(ctx, addr); err != nil || len(sequences) == 0 {
		return err
	}
	return vttablet.ResetSequences(ctx, addr, sequences)
}
