package reach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// traced are credentials that report to a Trace how handshakes end, and whether anything is heard after them.
type traced struct {
	credentials.TransportCredentials
	trace *Trace
}

// ClientHandshake implements credentials.TransportCredentials. etcd's client uses the endpoint as the authority.
func (c traced) ClientHandshake(
	ctx context.Context,
	authority string,
	raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	at := address(authority)
	if err != nil {
		if ctx.Err() == nil { // otherwise the attempt was given up
			c.trace.fail(at, false, explainHandshake(err))
		}
		return nil, nil, err
	}
	return &watched{Conn: conn, trace: c.trace, at: at, tls: c.Info().SecurityProtocol == "tls"}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c traced) Clone() credentials.TransportCredentials {
	return traced{c.TransportCredentials.Clone(), c.trace}
}

// watched is a connection that reports to a Trace whether the other end ever says anything, and when the connection has
// ended.
type watched struct {
	net.Conn
	trace  *Trace
	at     string
	tls    bool
	heard  atomic.Bool
	broken atomic.Pointer[error] // the error of the first write that failed
	ended  atomic.Bool
}

// Read implements net.Conn.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 && !w.heard.Load() && w.heard.CompareAndSwap(false, true) {
		w.first(b[:n])
	}
	if err != nil {
		w.end(err)
	}
	return n, err
}

// Write implements net.Conn. The other end may have closed the connection before gRPC writes for the first time. gRPC
// then closes its own end, often before a read could say why; so Close reports the error of the write.
func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err != nil {
		w.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close implements net.Conn.
func (w *watched) Close() error {
	why := net.ErrClosed
	if broken := w.broken.Load(); broken != nil {
		why = *broken
	}
	w.end(why)
	return w.Conn.Close()
}

// first judges the first bytes that are heard: HTTP/2 begins with a frame of settings.
func (w *watched) first(b []byte) {
	switch {
	case !w.tls && (b[0] == 0x15 || b[0] == 0x16): // TLS's alert, or its handshake
		w.ended.Store(true)
		w.trace.fail(w.at, false, Detail{Kind: WantsTLS, Text: "it speaks TLS, and was spoken to in plain text"})
	case bytes.HasPrefix(b, []byte("HTTP/")):
		w.ended.Store(true)
		w.trace.fail(w.at, false, Detail{Kind: NotEtcd, Text: "it speaks HTTP, but not gRPC: it is not etcd"})
	case len(b) > 3 && b[3] != 0x04: // the frame's type is not that of settings
		w.ended.Store(true)
		w.trace.fail(w.at, false, Detail{Kind: NotEtcd, Text: "it does not speak gRPC: it is not etcd"})
	default:
		w.trace.change(w.at, func(s *state) { s.up, s.failed = s.up+1, nil })
	}
}

// end notes once that the connection has ended.
func (w *watched) end(err error) {
	if !w.ended.CompareAndSwap(false, true) {
		return
	}
	local := errors.Is(err, net.ErrClosed)
	if !w.heard.Load() {
		if !local { // otherwise this end gave it up
			w.trace.fail(w.at, false, w.explainSilence(err))
		}
		return
	}
	w.trace.change(w.at, func(s *state) {
		s.up--
		if s.up == 0 && s.failed == nil {
			s.failed, s.unheard = &Detail{Kind: Lost, Text: "the connection was lost"}, true
		}
	})
}

// explainSilence says why a connection has ended over which nothing was heard.
func (w *watched) explainSilence(err error) Detail {
	switch closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE); {
	case !closed:
		return explainHandshake(err)
	case w.tls: // in TLS 1.3 a server checks the client's certificate last
		return Detail{
			Kind: WantsCert,
			Text: "it closed the connection after the TLS handshake, " +
				"as one does that wants another client certificate, or one at all",
		}
	default:
		return Detail{Kind: WantsTLS, Text: "it closed the connection at once, as one does that wants TLS"}
	}
}
