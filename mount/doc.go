// Package mount gives names to clusters outside this topology, and looks into them. It never writes to them.
//
// The nouns:
//
//   - A [Cluster] is an outside cluster: a Vitess cluster, known by its topology, or plain MySQL and MariaDB
//     servers, known by their addresses.
//   - A mount is a Cluster that has a name in a topology: [Register], [Show], [List], [Unregister]. Mounts of
//     type vitess are Vitess's own records, so both may use them.
//   - A [Handle] is an open cluster: its keyspaces, their shards, and for each shard the [Endpoint]s, which are
//     MySQL servers and the name of the database there.
//   - [Credentials] answer how to log in at a MySQL server. The embedding program gives them with every call;
//     no password is ever stored.
//
// The picture:
//
//	                            ┌─ vitess ── its topology ── keyspaces, shards, tablets ─┐
//	ts ── name ── Cluster ── Handle                                                      ├── Endpoint: host, port, database
//	                            └─ mysql ─── its servers ─── databases, shard "0" ───────┘
//
// In a cluster of type mysql every database is a keyspace with one shard, "0". Whichever server has
// read_only off is the primary, the others are replicas; that is asked anew at every call, so a failover needs no
// new registration.
//
//	c := mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{"db1:3306", "db2:3306"}}
//	creds := mount.Static(mount.Login{User: "mover", Password: password})
//	if err := mount.Register(ctx, ts, c, mount.RegisterOptions{Credentials: creds}); err != nil {
//		return err // names everything that is wrong with the cluster
//	}
//	h, err := mount.Open(ctx, ts, "ext1", mount.OpenOptions{Credentials: creds})
//	if err != nil {
//		return err
//	}
//	defer h.Close()
//	servers, err := h.Endpoints(ctx, "shop", "0", topo.TabletSelector{})
//
// Who reads from an Endpoint for long asks [Handle.Check] from time to time whether it still is one: tablets come and go, and primaries
// change. The topology server of a cell that does not answer is no reason to give a server up.
//
// A MySQL server is asked for its variables, SHOW DATABASES and, by Register, SHOW REPLICA STATUS. Only the last
// needs a privilege, REPLICATION CLIENT, and is left out without it; databases that the user may not see are not
// keyspaces.
package mount
