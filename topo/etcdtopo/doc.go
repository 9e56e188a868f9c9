// Package etcdtopo keeps a topology in etcd, in the form of Vitess's etcd2: the same keys, versions and locks.
//
//	openers := topo.Openers{"etcd2": etcdtopo.Open}
//	ts, err := topo.Open(ctx, openers, topo.Address{Type: "etcd2", Server: "a:2379,b:2379", Root: "/vitess/global"})
//
// For TLS, a user or other timeouts, use [Opener] with [Options].
//
//	key           <root>/<key>, no directory nodes
//	version       the key's ModRevision
//	lock          <root>/<dir>/locks/<lease>, owned by the oldest
package etcdtopo
