package tlsfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

// get requests the URL, and returns the version of HTTP.
func get(t *testing.T, client *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.ProtoMajor, resp.Body.Close()
}

func TestATransportConnectsWithWhatIsGoodNow(t *testing.T) {
	first, second := tlstest.New(t), tlstest.New(t)
	paths := first.Write(t.TempDir(), "agent")
	files, _ := opened(t, paths)
	begun, finish := make(chan struct{}), make(chan struct{})
	s := tlstest.Serve(t, first, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
	}))
	client := &http.Client{Transport: tlsfiles.NewTransport(&http.Transport{ForceAttemptHTTP2: true}, files.TLS)}
	defer client.CloseIdleConnections()
	for range 3 {
		if version, err := get(t, client, s.URL); err != nil || version != 2 {
			t.Fatalf("HTTP %d, %v", version, err)
		}
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections for what needs one", n)
	}
	slow := make(chan error, 1)
	go func() {
		_, err := get(t, client, s.URL+"/slow")
		slow <- err
	}()
	<-begun

	s.Rotate(second.Server())
	second.Write(filepath.Dir(paths.CA), "agent")
	deadline := time.Now().Add(20 * time.Second)
	for s.Connections() == 1 { // the transport asks for its configuration each second
		if _, err := get(t, client, s.URL); err != nil {
			t.Fatalf("after the rotation: %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the files were rotated, and no connection was made anew")
		}
	}
	close(finish)
	if err := <-slow; err != nil {
		t.Errorf("a request in progress broke off: %v", err)
	}
	s.Rotate(first.Server())
	client.CloseIdleConnections()
	if _, err := get(t, client, s.URL); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("a server of the old authority: %v", err)
	}
	// After a failure the transport asks at once, without waiting for a second to pass.
	first.Write(filepath.Dir(paths.CA), "agent")
	if _, err := get(t, client, s.URL); err != nil {
		t.Errorf("right after a failure: %v", err)
	}
}

func TestATransportVerifiesNames(t *testing.T) {
	authority := tlstest.New(t)
	files, _ := opened(t, authority.Write(t.TempDir(), "agent"))
	s := tlstest.Serve(t, authority, http.NotFoundHandler())
	client := &http.Client{Transport: tlsfiles.NewTransport(&http.Transport{}, files.TLS)}
	defer client.CloseIdleConnections()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, client, "https://localhost:"+port); err != nil {
		t.Error(err)
	}
	cfg := authority.Server()
	cfg.Certificates = []tls.Certificate{
		authority.Pair("server",
			func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"else.example"} }),
	}
	s.Rotate(cfg)
	client.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if _, err := get(t, client, "https://"+host+":"+port); !errors.As(err, new(x509.HostnameError)) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestATransportThatCannotAskFailsTheRequest(t *testing.T) {
	broken := errors.New("no certificate today")
	transport := tlsfiles.NewTransport(&http.Transport{}, func() (*tls.Config, error) { return nil, broken })
	transport.CloseIdleConnections()
	if _, err := get(t, &http.Client{Transport: transport}, "https://127.0.0.1:1/"); !errors.Is(err, broken) {
		t.Error(err)
	}
}
