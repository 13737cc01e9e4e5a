package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/reach"
)

// soon is when a certificate is reported that will expire: when less than a fifth of its life is left, and no more
// than 14 days. The log of a member warns at a fifth and 7 days; the doctor is asked by hand, and less often.
func soon(c *x509.Certificate, now time.Time) bool {
	left := c.NotAfter.Sub(now)
	return left < 14*24*time.Hour && left < c.NotAfter.Sub(c.NotBefore)/5
}

// config is the TLS configuration of new connections; nil: there is none.
func (r *run) tlsConfig() (*tls.Config, error) {
	switch c := r.cfg.Etcd; {
	case c.GetTLS != nil:
		return c.GetTLS()
	case c.TLS != nil:
		return c.TLS, nil
	case reach.Secure(c.Endpoints, false):
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	default:
		return nil, nil
	}
}

// secure looks at the certificate that the endpoint shows, and says whether it can be relied on. Without TLS there is
// nothing to look at.
func (t *target) secure(ctx context.Context, r *run) bool {
	config, err := r.tlsConfig()
	if err != nil {
		return t.note(ctx, r, transport, func(context.Context) finding {
			return failure("mend the function that returns the TLS configuration", "%v", err)
		})
	}
	if config == nil {
		return t.note(ctx, r, transport, func(context.Context) finding {
			return fine("without TLS, as configured: what is sent can be read and changed on its way")
		})
	}
	if t.proxied {
		return t.note(ctx, r, transport, func(context.Context) finding {
			return skipped("needs a connection without the HTTP proxy")
		})
	}
	var seen *tls.ConnectionState
	if !t.note(ctx, r, transport, func(ctx context.Context) (f finding) {
		seen, f = t.shake(ctx, config)
		return f
	}) {
		return false
	}
	leaf, name := seen.PeerCertificates[0], config.ServerName
	if name == "" {
		name = t.host
	}
	now := time.Now()
	var chain []*x509.Certificate
	trusted := t.note(ctx, r, trust, func(context.Context) (f finding) {
		chain, f = checkTrust(seen.PeerCertificates, config.RootCAs, now)
		return f
	})
	named := t.note(ctx, r, serverName, func(context.Context) finding { return checkName(leaf, name) })
	valid := t.note(ctx, r, validity, func(context.Context) finding {
		if chain == nil {
			chain = seen.PeerCertificates
		}
		return checkValidity(chain, now)
	})
	return trusted && named && valid
}

// shake makes a TLS handshake that accepts any certificate, so that all that is wrong with one is found at once.
// Nothing is sent over the connection.
func (t *target) shake(ctx context.Context, config *tls.Config) (*tls.ConnectionState, finding) {
	conn, err := new(net.Dialer).DialContext(ctx, t.network, t.at)
	if err != nil {
		return nil, failure("is --endpoints right?", "%s", reach.ExplainDial(err).Text)
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	var seen *tls.ConnectionState
	config = config.Clone()
	config.InsecureSkipVerify = true
	config.VerifyPeerCertificate = nil
	config.NextProtos = []string{"h2"}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		seen = &s
		return nil
	}
	if config.ServerName == "" {
		config.ServerName = t.host
	}
	secure := tls.Client(conn, config)
	err = secure.HandshakeContext(ctx)
	if seen == nil || len(seen.PeerCertificates) == 0 {
		if err == nil {
			err = errors.New("it shows no certificate")
		}
		d := reach.ExplainHandshake(err)
		if ctx.Err() != nil {
			d = reach.Detail{Kind: reach.Silent, Text: "accepts connections, and says nothing"}
		}
		return nil, failure(actionOf(d.Kind), "%s", d.Text)
	}
	return seen, fine("%s, %s", tls.VersionName(seen.Version), tls.CipherSuiteName(seen.CipherSuite))
}

// checkTrust finds a chain from a certificate to a trusted authority, at a time at which the certificate is valid.
func checkTrust(shown []*x509.Certificate, roots *x509.CertPool, now time.Time) ([]*x509.Certificate, finding) {
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	leaf := shown[0]
	if now.After(leaf.NotAfter) {
		now = leaf.NotAfter
	} else if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		d := reach.ExplainHandshake(err)
		return nil, failure(actionOf(d.Kind), "%s", d.Text)
	}
	authority := chains[0][len(chains[0])-1]
	return chains[0], fine("signed by the authority %q", called(authority))
}

func checkName(leaf *x509.Certificate, name string) finding {
	if err := leaf.VerifyHostname(name); err != nil {
		d := reach.ExplainHandshake(err)
		return failure(actionOf(reach.WrongName), "%s", d.Text)
	}
	return fine("it is for %s", name)
}

// checkValidity looks at all certificates of a chain: an authority may expire before what it has signed.
func checkValidity(chain []*x509.Certificate, now time.Time) finding {
	first := chain[0]
	for i, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return failure("give etcd another certificate, or set the clock right",
				"%s is valid from %s to %s, and this machine's clock says %s",
				which(i, c), stamp(c.NotBefore), stamp(c.NotAfter), stamp(now))
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	for i, c := range chain {
		if soon(c, now) {
			return warning("renew it in time: members lose their connections when it has expired",
				"%s expires at %s, in %s", which(i, c), stamp(c.NotAfter), days(c.NotAfter.Sub(now)))
		}
	}
	return fine("valid until %s, for %s", stamp(first.NotAfter), days(first.NotAfter.Sub(now)))
}

// which names a certificate of a chain.
func which(i int, c *x509.Certificate) string {
	if i == 0 {
		return fmt.Sprintf("the certificate %q", called(c))
	}
	return fmt.Sprintf("the authority's certificate %q", called(c))
}

// called is the name in a certificate.
func called(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return c.Subject.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// certificateTaken says what is known of the client's certificate once etcd has answered.
func (t *target) certificateTaken(r *run) finding {
	if leaf := r.clientLeaf(); leaf != nil {
		return fine("%q was accepted, or not asked for", called(leaf))
	}
	return fine("none is given, and none is wanted")
}

// clientLeaf is the client's own certificate, or nil.
func (r *run) clientLeaf() *x509.Certificate {
	config, err := r.tlsConfig()
	if err != nil || config == nil || len(config.Certificates) == 0 || len(config.Certificates[0].Certificate) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// checkTLS yields what was found about TLS at the endpoints, and looks at the client's own side.
func checkTLS(ctx context.Context, r *run) {
	r.addFound("tls")
	leaf := r.clientLeaf()
	r.check(ctx, ownCert, "", func(context.Context) finding {
		if leaf == nil {
			return skipped("needs a client certificate (--cert and --key)")
		}
		f := checkValidity([]*x509.Certificate{leaf}, time.Now())
		f.action = strings.Replace(f.action, "give etcd another certificate", "renew the file of --cert", 1)
		return f
	})
	r.check(ctx, inClear, "", func(context.Context) finding {
		if r.cfg.Etcd.Password == "" {
			return skipped("needs a password (--user)")
		}
		if config, _ := r.tlsConfig(); config != nil {
			return fine("the password is sent over TLS")
		}
		for _, t := range r.targets {
			ip := net.ParseIP(t.host)
			if here := t.network == "unix" || t.host == "localhost" || ip != nil && ip.IsLoopback(); !here {
				return warning("serve etcd with TLS, and use https:// or --cacert",
					"the password is sent to %s in the clear", t.endpoint)
			}
		}
		return fine("the password does not leave this machine")
	})
}
