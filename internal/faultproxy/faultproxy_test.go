package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const long = 30 * time.Second

// echo is a target that answers each line with the same line, and reports each line that it got.
func echo(t *testing.T) (address string, got <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewScanner(conn)
				for in.Scan() {
					lines <- in.Text()
					if _, err := io.WriteString(conn, in.Text()+"\n"); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), lines
}

// stage makes a proxy to an echo.
func stage(t *testing.T) (*faultproxy.Proxy, <-chan string) {
	t.Helper()
	address, got := echo(t)
	p, err := faultproxy.New(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, got
}

// caller is a connection through the proxy.
type caller struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, p *faultproxy.Proxy) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{conn, t, bufio.NewReader(conn)}
}

func (c *caller) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) hears(want string) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(long)); err != nil {
		c.t.Fatal(err)
	}
	if got, err := c.in.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// hearsNothing waits only a little, since one cannot wait for something that never comes.
func (c *caller) hearsNothing() {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		c.t.Fatal(err)
	}
	var timeout net.Error
	if got, err := c.in.ReadString('\n'); !errors.As(err, &timeout) || !timeout.Timeout() {
		c.t.Fatalf("heard %q, %v; want nothing, and the connection to stay", got, err)
	}
}

func (c *caller) isCut() {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(long)); err != nil {
		c.t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.in.ReadString('\n'); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("the connection lives: %v", err)
	}
}

func arrived(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case line := <-got:
		if line != want {
			t.Fatalf("the target got %q, want %q", line, want)
		}
	case <-time.After(long):
		t.Fatalf("the target did not get %q", want)
	}
}

func TestProxyForwards(t *testing.T) {
	p, got := stage(t)
	c := dial(t, p)
	c.send("a")
	arrived(t, got, "a")
	c.hears("a")
}

func TestResetEndsConnectionsAndNewOnesAreServed(t *testing.T) {
	p, _ := stage(t)
	c := dial(t, p)
	c.send("a")
	c.hears("a")
	p.Reset()
	c.isCut()
	c = dial(t, p)
	c.send("b")
	c.hears("b")
}

func TestABlackHoleSwallowsUntilHealed(t *testing.T) {
	p, got := stage(t)
	c := dial(t, p)
	c.send("a")
	arrived(t, got, "a")
	c.hears("a")
	p.BlackHole()
	c.send("lost")
	c.hearsNothing()
	p.Heal()
	c.isCut()
	c = dial(t, p)
	c.send("b")
	arrived(t, got, "b") // what was lost does not arrive
	c.hears("b")
}

func TestDropIsOneDirection(t *testing.T) {
	for _, test := range []struct {
		name     string
		way      faultproxy.Direction
		arrives  bool
		answered bool
	}{
		{"requests", faultproxy.ToTarget, false, false},
		{"answers", faultproxy.FromTarget, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, got := stage(t)
			c := dial(t, p)
			c.send("a")
			arrived(t, got, "a")
			c.hears("a")
			p.Drop(test.way)
			c.send("b")
			c.hearsNothing()
			if arrives := len(got) > 0; arrives != test.arrives {
				t.Errorf("the request arrived: %v, want %v", arrives, test.arrives)
			}
			p.Heal()
			c.isCut()
			c = dial(t, p)
			c.send("c")
			c.hears("c")
		})
	}
}

func TestDelayHoldsEachDirectionUpAndNotTheRate(t *testing.T) {
	p, got := stage(t)
	c := dial(t, p)
	const delay = 50 * time.Millisecond
	p.Delay(delay)
	began := time.Now()
	const n = 20
	for range n {
		c.send("a")
		// Without this pause the connection would join them into one chunk.
		select {
		case <-got:
		case <-time.After(delay / 10):
		}
	}
	for range n {
		c.hears("a")
	}
	took := time.Since(began)
	if took < 2*delay {
		t.Errorf("answered after %v, with %v each way", took, delay)
	}
	if took >= n*2*delay {
		t.Errorf("%d requests, sent together, took %v: one waits for the other", n, took)
	}
}

func TestCloseEndsAHoleAndADelay(t *testing.T) {
	p, _ := stage(t)
	c := dial(t, p)
	p.BlackHole()
	p.Delay(10 * time.Millisecond)
	c.send("a")
	p.Close()
	p.Close()
	c.isCut()
}
