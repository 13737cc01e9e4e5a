package leaselink

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPatience bounds waits for what must happen. Only a test that fails waits so long.
const testPatience = time.Minute

func TestCheckAcceptsSocketsAndNone(t *testing.T) {
	for _, good := range []string{"", "none", "unix:/run/s", "unix:@drm", "unix:/" + strings.Repeat("x", 102)} {
		if err := Check(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"unix:", "unix:/", "unix:s", "/run/s", "tcp:127.0.0.1:1", "unix:/" + strings.Repeat("x", 103),
	} {
		if err := Check(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestLinesSayWhatParseReads(t *testing.T) {
	for _, test := range []struct {
		line    string
		held    Lease
		dropped int64
		bad     bool
	}{
		{
			line: `{"lease":"694d8c5f0a1b2c3d","cluster":"cdf818194e3a8c32","of":"member"}`,
			held: Lease{ID: 0x694d8c5f0a1b2c3d, Cluster: 0xcdf818194e3a8c32, Of: Member},
		},
		{
			line: `{"lease":"a","of":"member","deaths":"/drm/app/deaths/m"}`,
			held: Lease{ID: 10, Of: Member, Deaths: "/drm/app/deaths/m"},
		},
		{line: `{"lease":"a"}`, held: Lease{ID: 10, Of: Claims}},
		{line: `{"lease":"a","of":"something new","more":[1]}`, held: Lease{ID: 10, Of: Claims}},
		{line: `{"dropped":"ffffffffffffffff"}`, dropped: -1},
		{line: `{"news":true}`},
		{line: `{"lease":"x"}`, bad: true},
		{line: `{"lease":"a","cluster":"-"}`, bad: true},
		{line: `{"lease":"a","deaths":"/drm/app/members/m"}`, bad: true},
		{line: `{"lease":"a","deaths":"/drm/app/deaths/"}`, bad: true},
		{line: `{"dropped":"12345678901234567"}`, bad: true},
		{line: `lease a`, bad: true},
		{line: ``, bad: true},
	} {
		held, dropped, err := Parse([]byte(test.line))
		if held != test.held || dropped != test.dropped || errors.Is(err, ErrLine) != test.bad {
			t.Errorf("%s: %+v, %d, %v", test.line, held, dropped, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"lease":"a","cluster":"b","of":"member","dropped":"c"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		held, dropped, err := Parse(text)
		if err != nil {
			return
		}
		line := Line{Lease: ID(held.ID), Cluster: ID(int64(held.Cluster)), Of: held.Of, Dropped: ID(dropped)}
		again, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		if h, d, err := Parse(again); err != nil || held.ID != 0 && h != held || d != dropped {
			t.Errorf("%s: %+v, %d, %v, want %+v, %d", again, h, d, err, held, dropped)
		}
	})
}

// listen makes a supervisor's socket.
func listen(t *testing.T) (l net.Listener, address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "link-") // shorter than t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err = (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), os.RemoveAll(dir) })
	return l, Address(path)
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestALinkTellsOfLeases(t *testing.T) {
	l, address := listen(t)
	link := Dial(address, zap.NewNop())
	link.Holds(0xc1, 0xa, Member, "/drm/app/deaths/m")
	link.Holds(0xc1, 0xb, Claims, "")
	link.Dropped(0xa)
	conn := accept(t, l)
	link.Dropped(0xb)
	link.Close() // which writes what has not been written yet
	var got []string
	for in := bufio.NewScanner(conn); in.Scan(); {
		got = append(got, in.Text())
	}
	want := []string{
		`{"lease":"000000000000000a","cluster":"00000000000000c1","of":"member","deaths":"/drm/app/deaths/m"}`,
		`{"lease":"000000000000000b","cluster":"00000000000000c1","of":"claims"}`,
		`{"dropped":"000000000000000a"}`,
		`{"dropped":"000000000000000b"}`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWithoutASupervisorALinkDoesNothing(t *testing.T) {
	for _, address := range []string{"", "none"} {
		link := Dial(address, zap.NewNop())
		if link != nil {
			t.Errorf("%q makes a link", address)
		}
		link.Holds(1, 2, Member, "")
		link.Dropped(2)
		link.Close()
	}
}

// A member must never wait for its supervisor, and says once what is wrong with it.
func TestALinkDoesNotWaitForASupervisorThatIsOfNoUse(t *testing.T) {
	for name, test := range map[string]struct {
		meet func(t *testing.T) (address string)
		want string
	}{
		"nobody there": {
			func(*testing.T) string { return "unix:/no/such/socket" }, "cannot reach the supervisor",
		},
		"it goes": {
			func(t *testing.T) string {
				l, address := listen(t)
				go func() {
					if conn, err := l.Accept(); err == nil {
						_ = conn.Close()
					}
				}()
				return address
			}, "supervisor",
		},
		"it does not read": {
			func(t *testing.T) string { _, address := listen(t); return address }, "supervisor",
		},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			link := Dial(test.meet(t), zap.New(core))
			began := time.Now()
			for i := range 100_000 {
				link.Holds(1, int64(i), Claims, "")
			}
			if took := time.Since(began); took > testPatience/2 {
				t.Errorf("it waits: %v", took)
			}
			for until := time.Now().Add(testPatience); logs.Len() == 0; {
				if time.Now().After(until) {
					t.Fatal("it says nothing")
				}
				<-time.After(time.Millisecond)
			}
			link.Close()
			link.Close()
			if all := logs.All(); len(all) != 1 || !strings.Contains(all[0].Message, test.want) {
				t.Errorf("logged %v, want one line with %q", all, test.want)
			}
		})
	}
}
