package etcdtopo_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

func ExampleOpen() {
	ctx := context.Background()
	openers := topo.Openers{"etcd2": etcdtopo.Open}
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "etcd2", Server: "localhost:2379", Root: "/vitess/global"})
	if err != nil {
		log.Fatal(err) // topo.ErrUnreachable after 5 s if nobody is there
	}
	defer ts.Close()
	keyspaces, err := ts.Keyspaces(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keyspaces)
}

func ExampleOpener() {
	openers := topo.Openers{
		"etcd2": etcdtopo.Opener(etcdtopo.Options{
			TLS:      &tls.Config{MinVersion: tls.VersionTLS13},
			Username: "tablehaul",
			Password: "from where the program keeps such things",
		}),
	}
	_ = openers
}
