package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// maxFile bounds the size of a file in bytes: no file with certificates is that large.
	maxFile = 16 << 20
	// checkEvery is how often Run looks at the files.
	checkEvery = time.Minute
	// soonShare and soonMost say when a certificate expires soon: less than a fifth of its life is left, and no more
	// than a week. A certificate that is renewed in time is renewed before that.
	soonShare = 5
	soonMost  = 7 * 24 * time.Hour
)

// Paths of PEM files. An empty path means that there is no such file. Cert and Key need each other.
type Paths struct {
	CA   string // the authorities to trust; empty: those of the system
	Cert string // the certificate to show, followed by those that lead to its authority
	Key  string // the key of Cert
}

// Error says which of the Paths is wrong: it has the name of a field, or of both fields if two do not fit each other.
type Error struct {
	Field string // "CA", "Cert", "Key", or "Cert, Key"
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// contents holds the contents of the files.
type contents struct{ ca, cert, key []byte }

func (c contents) equal(d contents) bool {
	return bytes.Equal(c.ca, d.ca) && bytes.Equal(c.cert, d.cert) && bytes.Equal(c.key, d.key)
}

// Files are the files of a TLS configuration. It is safe for concurrent use.
type Files struct {
	paths Paths
	what  string // the other side, as warnings name it
	log   *zap.Logger
	now   func() time.Time

	mu     sync.Mutex
	read   contents          // what config was made from
	parsed parsed            // the same, parsed
	bad    string            // the last reason why newer files are not used; empty: they are used
	told   map[string]expiry // the last warning about each kind of certificate
	config *tls.Config       // the last good configuration
}

// parsed holds what is in good files.
type parsed struct {
	roots *x509.CertPool
	cas   []*x509.Certificate
	pair  *tls.Certificate
}

// Open reads the files, which must be good now; an *Error says which file is not. At least one path must be given. what
// names the other side in warnings, such as "etcd". log gets one warning when later files cannot be used, and one when
// a certificate expires soon or has expired.
func Open(paths Paths, what string, log *zap.Logger) (*Files, error) {
	return open(paths, what, log, time.Now)
}

func open(paths Paths, what string, log *zap.Logger, now func() time.Time) (*Files, error) {
	f := &Files{paths: paths, what: what, log: log, now: now, told: map[string]expiry{}}
	read, err := f.readAll()
	if err != nil {
		return nil, err
	}
	p, err := f.parse(read)
	if err != nil {
		return nil, err
	}
	f.take(read, p)
	f.warnOfExpiry()
	return f, nil
}

// TLS returns the configuration that the files make now, which is the same pointer as before if they have not changed.
// The caller must not change it. If the files cannot be used, because a file is incomplete or a key does not belong to
// the certificate, TLS warns once and keeps the last good configuration. The error is always nil; it makes TLS a Get.
func (f *Files) TLS() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	read, err := f.readAll()
	if err == nil && !read.equal(f.read) {
		var p parsed
		if p, err = f.parse(read); err == nil {
			f.take(read, p)
			f.log.Info("certificates reloaded", zap.String("of", f.what))
		}
	}
	switch {
	case err == nil:
		f.bad = ""
	case f.bad != err.Error():
		f.bad = err.Error()
		f.log.Warn("cannot reload certificates; using the previous ones", zap.String("of", f.what), zap.Error(err))
	}
	f.warnOfExpiry()
	return f.config, nil
}

// Run looks at the files every minute until ctx ends, so that warnings come before a connection fails.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_, _ = f.TLS() // it never returns an error
		}
	}
}

func (f *Files) readAll() (c contents, err error) {
	for _, file := range []struct {
		field, path string
		to          *[]byte
	}{{"CA", f.paths.CA, &c.ca}, {"Cert", f.paths.Cert, &c.cert}, {"Key", f.paths.Key, &c.key}} {
		if file.path == "" {
			continue
		}
		if *file.to, err = readFile(file.path); err != nil {
			return c, &Error{Field: file.field, Err: err}
		}
	}
	return c, nil
}

// readFile reads a regular file. It refuses others, since reading a pipe would block.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %s", path, info.Mode())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // its error does not matter, since the file was only read
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, err
}

func (f *Files) parse(c contents) (p parsed, err error) {
	if c.ca != nil {
		if p.cas, err = certificates(c.ca); err != nil {
			return p, &Error{Field: "CA", Err: fmt.Errorf("%s: %w", f.paths.CA, err)}
		}
		p.roots = x509.NewCertPool()
		for _, cert := range p.cas {
			p.roots.AddCert(cert)
		}
	}
	if c.cert == nil && c.key == nil {
		return p, nil
	}
	for _, file := range []struct {
		field, path string
		text        []byte
	}{{"Cert", f.paths.Cert, c.cert}, {"Key", f.paths.Key, c.key}} {
		if _, err := blocks(file.text); err != nil {
			return p, &Error{Field: file.field, Err: fmt.Errorf("%s: %w", file.path, err)}
		}
	}
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return p, &Error{Field: "Cert, Key", Err: err}
	}
	p.pair = &pair
	return p, nil
}

// certificates returns the certificates in a PEM text. Like x509.CertPool it leaves out a certificate that this program
// does not understand, since the others may suffice; but it fails if none is left.
func certificates(text []byte) ([]*x509.Certificate, error) {
	all, err := blocks(text)
	if err != nil {
		return nil, err
	}
	var found []*x509.Certificate
	for _, block := range all {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, cert)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it contains no certificates in PEM")
	}
	return found, nil
}

// blocks returns the blocks of a PEM text. It fails if there is none, or if one is incomplete, since such a file is
// still being written.
func blocks(text []byte) (found []*pem.Block, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		found, text = append(found, block), rest
	}
	switch {
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return nil, errors.New("the file is cut off, or broken, in a PEM block")
	case len(found) == 0:
		return nil, errors.New("it contains nothing in PEM")
	}
	return found, nil
}

func (f *Files) take(read contents, p parsed) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.roots}
	if p.pair != nil {
		config.Certificates = []tls.Certificate{*p.pair}
	}
	f.read, f.parsed, f.config = read, p, config
}

// warnOfExpiry warns once of each certificate that expires soon, and once when it has expired. Of several authorities
// the one that expires last counts: while it is valid, it can still verify.
func (f *Files) warnOfExpiry() {
	if n := len(f.parsed.cas); n > 0 {
		last := f.parsed.cas[0]
		for _, cert := range f.parsed.cas[1:] {
			if cert.NotAfter.After(last.NotAfter) {
				last = cert
			}
		}
		f.warnOf("authority", f.paths.CA, last)
	}
	if f.parsed.pair != nil {
		f.warnOf("client certificate", f.paths.Cert, f.parsed.pair.Leaf)
	}
}

func (f *Files) warnOf(kind, path string, cert *x509.Certificate) {
	var state string
	switch left := cert.NotAfter.Sub(f.now()); {
	case left <= 0:
		state = "has expired"
	case left < min(soonMost, cert.NotAfter.Sub(cert.NotBefore)/soonShare):
		state = "expires soon"
	default:
		return
	}
	told := expiry{state, cert.NotAfter}
	if f.told[kind] == told {
		return
	}
	f.told[kind] = told
	f.log.Warn("a certificate "+state, zap.String("of", f.what), zap.String("kind", kind), zap.String("file", path),
		zap.Time("not_after", cert.NotAfter))
}

// expiry is what a warning was about.
type expiry struct {
	state    string
	notAfter time.Time
}
