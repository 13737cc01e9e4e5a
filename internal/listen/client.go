package listen

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/go-cleanhttp"
)

// Client returns a client for what listens at an address that URL has returned, and what stands before the path of a
// request to it. The error says what would be accepted, for a message that names the text. The client has no timeout of
// its own.
func Client(text string) (client *http.Client, base string, err error) {
	transport := cleanhttp.DefaultTransport()
	transport.Proxy = nil // what listens is near
	client = &http.Client{Transport: transport}
	if path, ok := strings.CutPrefix(text, "unix:"); ok && path != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return client, "http://agent", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, "", errors.New("http://HOST:PORT or unix:/PATH, as the agent prints it")
	}
	return client, "http://" + u.Host, nil
}
