// Package tlstest makes certificates for tests.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

var serials atomic.Int64

// Authority signs certificates.
type Authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte // the authority's own certificate
}

// New makes an authority.
func New(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{tb: tb}
	var der []byte
	der, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{
			CommonName: "authority",
		},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a *Authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	template.SerialNumber = big.NewInt(serials.Add(1))
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template.NotBefore = template.NotAfter.Add(-48 * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.tb.Fatal(err)
	}
	return der, key
}

// Sign makes a certificate and its key, in PEM. Unless change says otherwise, the certificate is for 127.0.0.1 and
// localhost, as a server and as a client with that name, and is valid from a day ago to a day from now.
func (a *Authority) Sign(name string, change func(*x509.Certificate)) (cert, key []byte) {
	a.tb.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{
			CommonName: name,
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, private := a.sign(template)
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.tb.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})
	return cert, key
}

// Pair makes a certificate as Sign does, for a tls.Config.
func (a *Authority) Pair(name string, change func(*x509.Certificate)) tls.Certificate {
	a.tb.Helper()
	cert, key := a.Sign(name, change)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.tb.Fatal(err)
	}
	return pair
}

// Pool returns a pool with only this authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Server is the configuration of a server that asks for a client certificate of this authority.
func (a *Authority) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.Pair("server", nil)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool(),
	}
}

// Write writes the authority and a certificate with that name to files in dir, each in one step: ca.pem, NAME.pem,
// NAME.key.
func (a *Authority) Write(dir, name string) tlsfiles.Paths {
	a.tb.Helper()
	cert, key := a.Sign(name, nil)
	paths := tlsfiles.Paths{
		CA:   filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, name+".pem"),
		Key:  filepath.Join(dir, name+".key"),
	}
	for path, text := range map[string][]byte{paths.CA: a.PEM, paths.Cert: cert, paths.Key: key} {
		Put(a.tb, path, text)
	}
	return paths
}

// Put writes a file in one step.
func Put(tb testing.TB, path string, text []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}
