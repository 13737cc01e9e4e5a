package reach

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

// severed is a connection that the other end has closed. A write fails on it, and a read has not noticed it yet.
type severed struct{ net.Conn }

func (severed) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

func (severed) Close() error { return nil }

// gRPC closes a connection that it cannot write to. The reason is reported all the same.
func TestAConnectionThatEndsBeforeTheFirstWriteIsExplained(t *testing.T) {
	const at = "etcd:2379"
	for _, test := range []struct {
		tls  bool
		kind Kind
		want string
	}{
		{true, WantsCert, "client certificate"},
		{false, WantsTLS, "wants TLS"},
	} {
		trace := New([]string{at}, nil, "")
		trace.change(at, func(s *state) { s.accepted = true })
		w := &watched{Conn: severed{}, trace: trace, at: at, tls: test.tls}
		if _, err := w.Write([]byte("PRI")); err == nil {
			t.Fatal("the write did not fail")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if d := trace.Reason().Details[0]; d.Kind != test.kind || !strings.Contains(d.Text, test.want) {
			t.Errorf("with TLS %v: got %+v, want it to say %q", test.tls, d, test.want)
		}
	}
	trace := New([]string{at}, nil, "")
	trace.change(at, func(s *state) { s.accepted = true })
	if err := (&watched{Conn: severed{}, trace: trace, at: at}).Close(); err != nil {
		t.Fatal(err)
	}
	if d := trace.Reason().Details[0]; d.Kind != Silent {
		t.Errorf("of a connection that was given up: got %+v", d)
	}
}
