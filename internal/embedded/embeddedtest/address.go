package embeddedtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports that Address picks from. Systems take ports for port 0 and for outgoing connections from above these.
const (
	firstPort = 15000
	endPort   = 32768
)

// Address picks an address on loopback for a server that is to be closed and started again. Nobody takes it meanwhile,
// as may happen to an address that was got by asking for port 0: that is one of those that the system hands out, to any
// server that asks for port 0, and to any connection, even one of a client that tries to reach the server that is gone.
func Address(tb testing.TB) string {
	tb.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(endPort-firstPort))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close() // the server listens there next
			return address
		}
	}
	tb.Fatalf("no free port from %d to %d", firstPort, endPort-1)
	return ""
}
