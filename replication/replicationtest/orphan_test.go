package replicationtest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

const orphanEnv = "REPLICATIONTEST_ORPHAN"

// TestMain lets the test binary be the process that [TestNoOrphans] kills.
func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		holdServer()
		return
	}
	os.Exit(m.Run())
}

// holdServer starts a server, prints its address and waits to be killed.
func holdServer() {
	e, err := replicationtest.RunEtcd(context.Background(), replicationtest.EtcdOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Addr())
	<-time.After(time.Minute)
}

func TestNoOrphans(t *testing.T) {
	needsServers(t)
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills the children of a killed process")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr = strings.TrimSpace(addr)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	var d net.Dialer
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for {
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return // nobody listens any more
		}
		c.Close()
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the server outlived the process that started it")
		}
	}
}
