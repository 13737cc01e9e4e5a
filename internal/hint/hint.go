// Package hint says what to check when an HTTP request fails, to the people who configured its URL. No hint repeats
// what was sent or answered.
package hint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Connection returns the hint for an error of http.Client about a URL with this scheme; empty if the error says enough.
func Connection(err error, scheme string) string {
	text := err.Error()
	switch {
	case errors.As(err, new(tls.RecordHeaderError)) ||
		strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS there: should the URL begin with http:// instead of https://?"
	case strings.Contains(text, "malformed HTTP response \"\\x15\\x03"):
		return "the server speaks TLS there: should the URL begin with https:// instead of http://?"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "no trusted authority has signed the server's certificate: configure the authority that has"
	case strings.Contains(text, "remote error: tls: certificate required") ||
		strings.Contains(text, "remote error: tls: bad certificate") ||
		strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return "the server wants a client certificate of an authority that it knows"
	case errors.Is(err, io.EOF) || strings.HasSuffix(text, ": EOF") ||
		strings.HasSuffix(text, "connection reset by peer"):
		if scheme == "https" {
			return "the server closed the connection without an answer: does it speak TLS there?"
		}
		return "the server closed the connection without an answer: does it speak TLS there, and want https://?"
	}
	return ""
}

// Status returns the hint for a status of a response; empty if the status says enough.
func Status(code int) string {
	switch {
	case code == http.StatusUnauthorized:
		return "check the credentials that are sent (header, user and password)"
	case code == http.StatusForbidden:
		return "check what the credentials that are sent are allowed"
	case code == http.StatusNotFound || code == http.StatusGone:
		return "check the path of the URL"
	case code == http.StatusMethodNotAllowed:
		return "check the method, and the path of the URL"
	case code == http.StatusProxyAuthRequired:
		return "check the credentials for the proxy that the environment names"
	case code == http.StatusNotModified:
		return "the server says that nothing has changed, but the request did not ask that"
	case code/100 == 3:
		return "check the URL: it leads elsewhere"
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return "check whether what the URL leads to is up"
	case code >= 500:
		return "check the log of the service"
	}
	return ""
}

// hostLike matches what may be a host with a port or a path, without user, password and query.
var hostLike = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]+)?(/[^?#@]*)?$`)

// Scheme helps with a URL that may only lack its scheme, such as localhost:9000. It returns the part that may be shown,
// and what is wanted. ok is false if the text is something else.
func Scheme(text string) (shown, want string, ok bool) {
	if !hostLike.MatchString(text) || strings.HasPrefix(text, "http:/") || strings.HasPrefix(text, "https:/") {
		return "", "", false
	}
	u, err := url.Parse("http://" + text)
	if err != nil || u.Hostname() == "" {
		return "", "", false
	}
	return text, fmt.Sprintf("a URL with its scheme, such as http://%s or https://%s", text, text), true
}
