// Package hint says what to check when an HTTP request fails, for people who configured a URL. No hint repeats what was
// sent or answered.
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

// Connection says what an error of http.Client about a URL of this scheme suggests, "" where it says enough by itself.
func Connection(err error, scheme string) string {
	text := err.Error()
	switch {
	case errors.As(err, new(tls.RecordHeaderError)) || strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS there: is it http:// instead of https://?"
	case strings.Contains(text, "malformed HTTP response \"\\x15\\x03"):
		return "the server speaks TLS there: is it https:// instead of http://?"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "no authority that is trusted has signed the server's certificate: give the one that has"
	case strings.Contains(text, "remote error: tls: certificate required") || strings.Contains(text, "remote error: tls: bad certificate") ||
		strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return "the server wants a client certificate, of an authority that it knows"
	case errors.Is(err, io.EOF) || strings.HasSuffix(text, ": EOF") || strings.HasSuffix(text, "connection reset by peer"):
		if scheme == "https" {
			return "the server closed the connection without an answer: does it speak TLS there?"
		}
		return "the server closed the connection without an answer: does it speak TLS there, and want https://?"
	}
	return ""
}

// Status says what a status of a request suggests, "" where it says enough by itself.
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
		return "nothing was asked conditionally"
	case code/100 == 3:
		return "check the URL: it leads elsewhere"
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return "check whether what the URL leads to is up"
	case code >= 500:
		return "check the log of the service"
	}
	return ""
}

// hostLike is what may be a host with a port or a path, without user, password and query.
var hostLike = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]+)?(/[^?#@]*)?$`)

// Scheme is what to say of a URL that may just lack its scheme, such as localhost:9000: what of it can be shown, and
// what is wanted. ok is false where it is something else.
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
