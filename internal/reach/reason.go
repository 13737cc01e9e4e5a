package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// Kind says what prevents an answer.
type Kind int

// The kinds, by what must be done about them.
const (
	Unknown     Kind = iota
	Refused          // nobody listens there
	NoName           // the name is not known
	NoAnswer         // the network does not answer
	Silent           // the other end accepts a connection, and says nothing
	Untrusted        // the certificate is of an authority that is not trusted
	WrongName        // the certificate is for another name
	Expired          // the certificate has expired, or is not valid yet
	BadCert          // the certificate is bad in another way
	WantsCert        // the other end wants a client certificate
	RefusesCert      // the other end refuses the client certificate
	NotTLS           // the other end does not speak TLS
	WantsTLS         // the other end speaks only TLS
	NotEtcd          // the other end is not etcd
	Lost             // the connection has ended
	Connected        // nothing prevents it: etcd is slow, or hangs
	NoLeader         // etcd is connected, and its cluster has no leader
)

// lasting says whether the problem stays until somebody acts; a server that starts up, for example, does not last.
func (k Kind) lasting() bool { return k == Untrusted || k == WrongName }

// Detail is what is known about one endpoint.
type Detail struct {
	Endpoint string // host:port, or the name of a socket
	Kind     Kind
	Text     string
}

// Reason is why no answer of etcd came. As an error it is one line.
type Reason struct {
	Details []Detail // one for each endpoint
	Slow    bool     // etcd is connected, and has answered something before
}

// Has says whether an endpoint has one of the kinds.
func (r *Reason) Has(kinds ...Kind) bool {
	for _, d := range r.Details {
		for _, k := range kinds {
			if d.Kind == k {
				return true
			}
		}
	}
	return false
}

// WithoutLeader returns the reason of a client that has learnt that the cluster has no leader, so that etcd is
// connected and cannot answer.
func (r *Reason) WithoutLeader() *Reason {
	told := &Reason{Slow: r.Slow}
	for _, d := range r.Details {
		if d.Kind == Connected {
			d.Kind, d.Text = NoLeader, "connected, and its cluster has no leader"
		}
		told.Details = append(told.Details, d)
	}
	return told
}

// Error names each reason once, with the endpoints that it applies to.
func (r *Reason) Error() string {
	var texts []string
	where := map[string][]string{}
	for _, d := range r.Details {
		if where[d.Text] == nil {
			texts = append(texts, d.Text)
		}
		where[d.Text] = append(where[d.Text], d.Endpoint)
	}
	for i, text := range texts {
		texts[i] = strings.Join(where[text], ", ") + ": " + text
	}
	return strings.Join(texts, "; ")
}

// ExplainDial says why a connection to an endpoint could not be made.
func ExplainDial(err error) Detail { return explainDial(err) }

// explainDial says why there is no connection.
func explainDial(err error) Detail {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		if name.IsNotFound {
			return Detail{Kind: NoName, Text: "no such host name"}
		}
		return Detail{Kind: NoName, Text: "the host name cannot be looked up (" + short(name.Err) + ")"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Detail{Kind: Refused, Text: "connection refused"}
	case errors.Is(err, os.ErrNotExist): // it is a Unix socket
		return Detail{Kind: Refused, Text: "no such socket"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Detail{Kind: NoAnswer, Text: "no answer to the attempt to connect"}
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return Detail{Kind: NoAnswer, Text: "no way to the host"}
	}
	return Detail{Kind: Unknown, Text: short(innermost(err).Error())}
}

// ExplainHandshake says why a TLS handshake failed, or why a certificate is not relied on.
func ExplainHandshake(err error) Detail { return explainHandshake(err) }

// explainHandshake says why TLS failed, or why nothing is heard.
func explainHandshake(err error) Detail {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		network   *net.OpError
	)
	text := short(innermost(err).Error())
	switch {
	case errors.As(err, &authority):
		return Detail{Kind: Untrusted, Text: "its certificate is not trusted (" + short(authority.Error()) + ")"}
	case errors.As(err, &name):
		return Detail{Kind: WrongName, Text: "its certificate is for another name (" + short(name.Error()) + ")"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Detail{Kind: Expired, Text: "its certificate is out of date (" + short(invalid.Error()) + ")"}
	case strings.HasPrefix(text, "x509: "):
		return Detail{Kind: BadCert, Text: "its certificate is no good (" + text + ")"}
	case errors.As(err, &record):
		return Detail{Kind: NotTLS, Text: "it does not speak TLS"}
	case errors.As(err, &network) && network.Op == "remote error":
		return explainAlert(text)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Detail{
			Kind: NotTLS,
			Text: "it closed the connection in the TLS handshake, as one does that does not speak TLS",
		}
	case strings.Contains(text, "ALPN"):
		return Detail{Kind: NotEtcd, Text: "it speaks TLS, but not HTTP/2: it is not etcd"}
	}
	return Detail{Kind: Unknown, Text: text}
}

// explainAlert says what the other end complains about. Go has no values for TLS alerts, only their texts.
func explainAlert(text string) Detail {
	switch text {
	case "tls: certificate required":
		// A client does not show a certificate that none of the authorities has signed that the server names.
		return Detail{
			Kind: WantsCert,
			Text: "it wants a client certificate that an authority of its own has signed (" + text + ")",
		}
	case "tls: handshake failure", "tls: access denied", "tls: bad certificate", "tls: unsupported certificate",
		"tls: revoked certificate", "tls: expired certificate", "tls: unknown certificate",
		"tls: unknown certificate authority":
		return Detail{Kind: RefusesCert, Text: "it refuses the client certificate, or wants one (" + text + ")"}
	}
	return Detail{Kind: Unknown, Text: "it refuses the TLS handshake (" + text + ")"}
}

// innermost returns the error at the bottom of a chain; the errors above it repeat the address.
func innermost(err error) error {
	for {
		under := errors.Unwrap(err)
		if under == nil {
			return err
		}
		err = under
	}
}

// short limits the length of a text from outside, such as a certificate's.
func short(text string) string {
	const most = 200
	return excerpt.Runes(strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "\uFFFD"), most)
}
