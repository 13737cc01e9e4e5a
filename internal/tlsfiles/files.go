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
	// maxFile bounds a file, in bytes: there is none of that size with certificates in it.
	maxFile = 16 << 20
	// checkEvery is how often Run looks at the files.
	checkEvery = time.Minute
	// soonShare and soonMost say when a certificate expires soon: less than a fifth of its life is left, and no more
	// than a week. Whoever renews it in time does so before.
	soonShare = 5
	soonMost  = 7 * 24 * time.Hour
)

// Paths of PEM files, each empty where there is none. Cert and Key need each other.
type Paths struct {
	CA   string // the authorities that are trusted; none: the system's
	Cert string // what is shown to the other side, with the certificates that lead to its authority
	Key  string // of Cert
}

// Error says which of the Paths is wrong: a field's name, and both names where two do not fit.
type Error struct {
	Field string // "CA", "Cert", "Key", or "Cert, Key"
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// contents are what is in the files.
type contents struct{ ca, cert, key []byte }

func (c contents) equal(d contents) bool {
	return bytes.Equal(c.ca, d.ca) && bytes.Equal(c.cert, d.cert) && bytes.Equal(c.key, d.key)
}

// Files are the files of a TLS configuration. It is safe for use from any goroutine.
type Files struct {
	paths Paths
	what  string // whom it is for
	log   *zap.Logger
	now   func() time.Time

	mu     sync.Mutex
	read   contents          // what current is made of
	parsed parsed            // likewise
	bad    string            // the last reason why newer files are not used; "": they are
	told   map[string]expiry // of the last warning about each kind of certificate
	config *tls.Config       // the last good one
}

// parsed is what is in good files.
type parsed struct {
	roots *x509.CertPool
	cas   []*x509.Certificate
	pair  *tls.Certificate
}

// Open reads the files, which must be good now; an *Error says which one is not. what names the other side in warnings,
// such as "etcd". log gets a warning, once, when later files cannot be used or a certificate expires soon or has
// expired. At least one path is given.
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

// TLS is the configuration that the files make now; the same pointer as before where they have not changed. Files that
// cannot be used, such as half a file or a key that is not the certificate's, are warned of once, and the last good
// configuration goes on. It is not to be changed. The error is always nil: it is there for those who ask.
func (f *Files) TLS() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	read, err := f.readAll()
	if err == nil && !read.equal(f.read) {
		var p parsed
		if p, err = f.parse(read); err == nil {
			f.take(read, p)
			f.log.Info("certificates were read again", zap.String("of", f.what))
		}
	}
	switch {
	case err == nil:
		f.bad = ""
	case f.bad != err.Error():
		f.bad = err.Error()
		f.log.Warn("certificates cannot be read again; those read before are used", zap.String("of", f.what),
			zap.Error(err))
	}
	f.warnOfExpiry()
	return f.config, nil
}

// Run looks at the files each minute until ctx ends, so that warnings come before a connection fails.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_, _ = f.TLS() // it has no error
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

// readFile reads a file that is a regular one: a pipe would be waited for.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file, but %s", path, info.Mode())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
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

// certificates are those in a PEM text. One that this program does not understand is left out, as x509.CertPool does,
// for others may suffice; but not all may be.
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
		return nil, errors.New("there are no certificates in PEM in it")
	}
	return found, nil
}

// blocks are those of a PEM text, of which there must be one, and none that is cut off: such a file is still being
// written.
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
		return nil, errors.New("there is nothing in PEM in it")
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

// warnOfExpiry warns once of each certificate that expires soon, and once when it has expired. Of the authorities it is
// the last one that counts: with those before it gone, the others still verify.
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
