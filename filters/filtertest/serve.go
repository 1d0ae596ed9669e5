package filtertest

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// Serve lets serve play an engine, for faults that the real one does not produce on
// demand, until the test ends. It returns the address as the configuration has it.
func Serve(t testing.TB, network string, serve func(net.Conn)) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Wait()
	})
	return network + ":" + l.Addr().String()
}
