package reach

import (
	"errors"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Accepted lists the forms of an endpoint, and completes "want …".
const Accepted = "HOST:PORT, [IPv6]:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH"

// EndpointError says what is wrong with an endpoint.
type EndpointError struct {
	Endpoint string // the endpoint, without what may be a secret
	Want     string // completes "want …"
}

func (e *EndpointError) Error() string { return e.Endpoint + ": want " + e.Want }

// CheckEndpoints returns an *EndpointError for the first endpoint that cannot be connected to, or that contradicts
// another endpoint or the configured TLS.
func CheckEndpoints(endpoints []string, tls bool) error {
	secure := tls
	for _, e := range endpoints {
		if err := checkEndpoint(e); err != nil {
			return &EndpointError{withoutSecrets(e), err.Error()}
		}
		secure = secure || wantsTLS(e)
	}
	for _, e := range endpoints {
		switch scheme, _ := schemeOf(e); {
		case scheme != "http" || !secure:
		case tls:
			return &EndpointError{e, "https://HOST:PORT or HOST:PORT, since TLS is configured"}
		default:
			return &EndpointError{e, "https:// as of the other endpoints"}
		}
	}
	return nil
}

// checkEndpoint returns an error whose text completes "want …".
func checkEndpoint(endpoint string) error {
	if strings.ContainsFunc(endpoint, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New(Accepted + ", without white space")
	}
	scheme, rest := schemeOf(endpoint)
	switch scheme {
	case "":
		return checkHostPort(endpoint)
	case "unix", "unixs":
		if strings.TrimLeft(rest, "/") == "" {
			return errors.New(scheme + "://PATH")
		}
		return nil
	case "http", "https":
	default:
		return errors.New(Accepted)
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return errors.New(scheme + "://HOST:PORT" + hintIPv6(rest))
	case u.User != nil:
		return errors.New(scheme + "://HOST:PORT without a user, which is given apart")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return errors.New(scheme + "://HOST:PORT and nothing after it")
	}
	return checkHostPort(u.Host)
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New(Accepted + hintIPv6(text))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("a port from 1 to 65535 in " + Accepted)
	}
	if strings.Contains(host, "%") {
		return errors.New(Accepted + ", without a zone") // gRPC reads the endpoint as a URL
	}
	if strings.ContainsAny(host, `/\?#@"<>`) || strings.Contains(text, "]") != strings.Contains(host, ":") {
		return errors.New(Accepted)
	}
	return nil
}

// hintIPv6 tells how to write a text that looks like an IPv6 address and a port.
func hintIPv6(text string) string {
	at := strings.LastIndexByte(text, ':')
	if at < 0 || strings.ContainsAny(text, "[]") {
		return ""
	}
	if ip := net.ParseIP(text[:at]); ip != nil && ip.To4() == nil {
		return "; of IPv6: [" + text[:at] + "]" + text[at:]
	}
	return ""
}

// schemeOf splits an endpoint; host:port has an empty scheme. etcd's client accepts unix:PATH too.
func schemeOf(endpoint string) (scheme, rest string) {
	if scheme, rest, ok := strings.Cut(endpoint, "://"); ok {
		return strings.ToLower(scheme), rest
	}
	for _, scheme := range []string{"unix", "unixs"} {
		if rest, ok := strings.CutPrefix(endpoint, scheme+":"); ok {
			return scheme, rest
		}
	}
	return "", endpoint
}

func wantsTLS(endpoint string) bool {
	scheme, _ := schemeOf(endpoint)
	return scheme == "https" || scheme == "unixs"
}

// InTheClear says whether an endpoint asks for a connection without TLS.
func InTheClear(endpoint string) bool {
	scheme, _ := schemeOf(endpoint)
	return scheme == "http"
}

// Target is what is dialed to reach an endpoint that passed CheckEndpoints: the network "tcp" and a host:port, or the
// network "unix" and the path of a socket.
func Target(endpoint string) (network, at string) {
	if scheme, rest := schemeOf(endpoint); scheme == "unix" || scheme == "unixs" {
		return "unix", rest
	}
	return "tcp", address(endpoint)
}

// Secure says whether connections to any of the endpoints are made over TLS. tls says that TLS is configured.
func Secure(endpoints []string, tls bool) bool {
	return tls || slices.ContainsFunc(endpoints, wantsTLS)
}

// Proxied says whether gRPC connects to a host:port through a proxy that the environment names.
func Proxied(at string) bool { return proxied(at) }

// address is the name by which an endpoint, its dialed target and its TLS authority are recognised: its host:port, or
// the last part of a socket's path.
func address(endpoint string) string {
	switch scheme, rest := schemeOf(endpoint); scheme {
	case "unix", "unixs":
		return path.Base(rest)
	case "http", "https":
		if u, err := url.Parse(endpoint); err == nil {
			return u.Host
		}
	}
	return endpoint
}

// withoutSecrets returns an endpoint in a form that an error may show.
func withoutSecrets(endpoint string) string {
	before, after, user := strings.Cut(endpoint, "@")
	if !user {
		return endpoint
	}
	scheme, _, has := strings.Cut(before, "://")
	if !has {
		return "…@" + after
	}
	return scheme + "://…@" + after
}
