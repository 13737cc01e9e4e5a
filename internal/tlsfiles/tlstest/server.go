package tlstest

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Server is an HTTP server whose certificate, and what it asks of clients, can be rotated.
type Server struct {
	*httptest.Server
	current     atomic.Pointer[tls.Config]
	connections atomic.Int32
}

// Serve runs a server until the test ends, with the configuration of Authority.Server.
func Serve(tb testing.TB, a *Authority, handler http.Handler) *Server {
	tb.Helper()
	s := &Server{Server: httptest.NewUnstartedServer(handler)}
	s.Rotate(a.Server())
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.connections.Add(1)
			return s.current.Load(), nil
		},
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s
}

// Rotate gives further connections another configuration.
func (s *Server) Rotate(cfg *tls.Config) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	s.current.Store(cfg)
}

// Connections is how many connections were begun.
func (s *Server) Connections() int { return int(s.connections.Load()) }
