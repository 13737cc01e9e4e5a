package tlsfiles_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

// shake does the handshake with a server as a gRPC client does. authority is the name or address that was dialled.
func shake(t *testing.T, server *tls.Config, authority string, get tlsfiles.Get) error {
	t.Helper()
	server = server.Clone()
	server.NextProtos = []string{"h2"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		there, err := listener.Accept()
		if err != nil {
			return
		}
		conn := tls.Server(there, server)
		if conn.Handshake() == nil {
			_, _ = io.Copy(io.Discard, conn) // until the client closes the connection
		}
		_ = there.Close()
	}()
	defer func() { <-served }()
	defer func() { _ = listener.Close() }()
	here, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = here.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, info, err := tlsfiles.Credentials(get).ClientHandshake(ctx, authority, here)
	if err != nil {
		return err
	}
	if info.AuthType() != "tls" {
		t.Errorf("AuthType %q", info.AuthType())
	}
	_ = conn.Close()
	return nil
}

// Asking for the configuration at each connection changes nothing about how connections are verified.
func TestConnectionsAreVerifiedAsEver(t *testing.T) {
	authority, other := tlstest.New(t), tlstest.New(t)
	paths := authority.Write(t.TempDir(), "agent")
	files, _ := opened(t, paths)
	changed := func(change func(*x509.Certificate)) *tls.Config {
		cfg := authority.Server()
		cfg.Certificates = []tls.Certificate{authority.Pair("server", change)}
		return cfg
	}
	noIP := changed(func(c *x509.Certificate) { c.IPAddresses = nil })
	for name, c := range map[string]struct {
		server    *tls.Config
		authority string
		want      error // an error of this type
	}{
		"an address":                {authority.Server(), "127.0.0.1:2379", nil},
		"an address without a port": {authority.Server(), "127.0.0.1", nil},
		"a name":                    {authority.Server(), "localhost:2379", nil},
		"a name alone":              {noIP, "localhost:2379", nil},
		"another address":           {authority.Server(), "127.0.0.2:2379", x509.HostnameError{}},
		"an address it is not for":  {noIP, "127.0.0.1:2379", x509.HostnameError{}},
		"another name":              {authority.Server(), "etcd.example:2379", x509.HostnameError{}},
		"another authority":         {other.Server(), "127.0.0.1:2379", x509.UnknownAuthorityError{}},
		"one that has expired": {
			changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), "127.0.0.1:2379",
			x509.CertificateInvalidError{},
		},
		"one that is for a client": {
			changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
			"127.0.0.1:2379",
			x509.CertificateInvalidError{},
		},
		"a name, by another authority": {
			&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{other.Pair("server", nil)}},
			"localhost",
			x509.UnknownAuthorityError{},
		},
	} {
		err := shake(t, c.server, c.authority, files.TLS)
		ok := err == nil
		switch want := c.want.(type) {
		case x509.HostnameError:
			ok = errors.As(err, &want)
		case x509.UnknownAuthorityError:
			ok = errors.As(err, &want)
		case x509.CertificateInvalidError:
			ok = errors.As(err, &want)
		}
		if !ok {
			t.Errorf("%s: %v, want %T", name, err, c.want)
		}
	}

	// The next connection uses the new authority, and the new certificate of the client.
	if err := shake(t, other.Server(), "127.0.0.1:2379", files.TLS); err == nil {
		t.Error("another authority's server is trusted before the rotation")
	}
	other.Write(filepath.Dir(paths.CA), "agent")
	if err := shake(t, other.Server(), "127.0.0.1:2379", files.TLS); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	err := shake(t, authority.Server(), "127.0.0.1:2379", files.TLS)
	if !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("the old authority's server, after the rotation: %v", err)
	}
}

func TestAUsersFunctionHarmsNobody(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	for name, get := range map[string]tlsfiles.Get{
		"an error":       func() (*tls.Config, error) { return nil, errors.New("no certificate today") },
		"nothing":        func() (*tls.Config, error) { return nil, nil },
		"a panic":        func() (*tls.Config, error) { panic("hunter2") },
		"Goexit":         func() (*tls.Config, error) { runtime.Goexit(); return nil, nil },
		"one that hangs": func() (*tls.Config, error) { <-hung; return nil, errors.New("too late") },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if name == "one that hangs" {
			cancel(errors.New("given up"))
		}
		here, there := net.Pipe()
		_, _, err := tlsfiles.Credentials(get).ClientHandshake(ctx, "127.0.0.1", here)
		if err == nil || !strings.HasPrefix(err.Error(), "asking for the TLS configuration: ") ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		_, _ = here.Close(), there.Close()
		cancel(nil)
	}
}
