package replicationtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports come from below the range that the kernel gives to outgoing connections, so that
// a server that is down for a moment finds its port free when it comes back.
const (
	lowestPort  = 15000
	highestPort = 29999
)

// ports are the ports in use by this process.
var ports = struct {
	sync.Mutex
	used map[int]bool
}{used: map[int]bool{}}

// reservePort returns a port of the loopback interface that nobody listens on. Another
// process may still take it before the caller does: the caller then reserves another.
func reservePort(ctx context.Context) (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if ports.used[port] {
			continue
		}
		l, err := listen(ctx, port)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			continue
		}
		ports.used[port] = true
		return port, nil
	}
	return 0, errors.New("no free TCP port")
}

func releasePort(port int) {
	ports.Lock()
	defer ports.Unlock()
	delete(ports.used, port)
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", loopback(port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// loopback returns the address of a local port.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
