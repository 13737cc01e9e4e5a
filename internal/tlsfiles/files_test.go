package tlsfiles_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opened opens files that a test rotates, and returns what is logged about them.
func opened(t *testing.T, paths tlsfiles.Paths) (*tlsfiles.Files, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.WarnLevel)
	files, err := tlsfiles.Open(paths, "etcd", zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return files, logs
}

func config(t *testing.T, files *tlsfiles.Files) *tls.Config {
	t.Helper()
	cfg, err := files.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func trusts(cfg *tls.Config, a *tlstest.Authority) bool { return cfg.RootCAs.Equal(a.Pool()) }

func TestFilesAreReadWhenTheyAreNeeded(t *testing.T) {
	dir, first, second := t.TempDir(), tlstest.New(t), tlstest.New(t)
	files, logs := opened(t, first.Write(dir, "agent"))
	before := config(t, files)
	if config(t, files) != before || !trusts(before, first) {
		t.Error("nothing changed, and the configuration is another one; or it trusts others")
	}
	second.Write(dir, "agent")
	after := config(t, files)
	if !trusts(after, second) ||
		bytes.Equal(after.Certificates[0].Certificate[0], before.Certificates[0].Certificate[0]) {
		t.Error("the files were replaced, and are not used")
	}
	if logs.Len() != 0 {
		t.Errorf("warned of %v", logs.All())
	}
}

// Whatever is found while files are replaced, or afterwards, the last good files stay in use, and one warning says so.
func TestBrokenFilesAreNotUsed(t *testing.T) {
	authority, other := tlstest.New(t), tlstest.New(t)
	foreign, _ := other.Sign("agent", nil)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p tlsfiles.Paths)
		want  string
	}{
		"no CA":             {func(t *testing.T, p tlsfiles.Paths) { remove(t, p.CA) }, "ca.pem"},
		"no key":            {func(t *testing.T, p tlsfiles.Paths) { remove(t, p.Key) }, "agent.key"},
		"an empty CA":       {func(t *testing.T, p tlsfiles.Paths) { tlstest.Put(t, p.CA, nil) }, "ca.pem"},
		"half a CA":         {func(t *testing.T, p tlsfiles.Paths) { half(t, p.CA, nil) }, "cut off"},
		"a CA and a half":   {func(t *testing.T, p tlsfiles.Paths) { half(t, p.CA, other.PEM) }, "cut off"},
		"half a cert":       {func(t *testing.T, p tlsfiles.Paths) { half(t, p.Cert, nil) }, "cut off"},
		"half an authority": {func(t *testing.T, p tlsfiles.Paths) { half(t, p.Cert, foreign) }, "cut off"},
		"half a key":        {func(t *testing.T, p tlsfiles.Paths) { half(t, p.Key, nil) }, "cut off"},
		"another's cert": {
			func(t *testing.T, p tlsfiles.Paths) { tlstest.Put(t, p.Cert, foreign) }, "private key does not match",
		},
		"a key for a CA": {func(t *testing.T, p tlsfiles.Paths) { tlstest.Put(t, p.CA, read(t, p.Key)) }, "ca.pem"},
		"a folder for a CA": {
			func(t *testing.T, p tlsfiles.Paths) { remove(t, p.CA); mkdir(t, p.CA) }, "no regular file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			paths := authority.Write(t.TempDir(), "agent")
			key := read(t, paths.Key)
			files, logs := opened(t, paths)
			before := config(t, files)
			c.spoil(t, paths)
			for range 3 {
				if config(t, files) != before {
					t.Fatal("the last good configuration is not used on")
				}
			}
			warned := logs.TakeAll()
			if len(warned) != 1 || !strings.Contains(warned[0].ContextMap()["error"].(string), c.want) {
				t.Errorf("warned of %v, want %q once", warned, c.want)
			}
			for _, line := range warned {
				if strings.Contains(line.ContextMap()["error"].(string), string(bytes.Split(key, []byte("\n"))[1])) {
					t.Error("the key is in a warning")
				}
			}
			if _, err := tlsfiles.Open(paths, "etcd", zap.NewNop()); err == nil ||
				errors.As(err, new(*tlsfiles.Error)) == false {
				t.Errorf("at the start: %v", err)
			}
			if name == "a folder for a CA" {
				remove(t, paths.CA)
			}
			other.Write(filepath.Dir(paths.CA), "agent")
			if got := config(t, files); got == before || !trusts(got, other) || logs.Len() != 0 {
				t.Errorf("good files are not used after bad ones; warned of %v", logs.All())
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// half leaves half of a file, after a whole part.
func half(t *testing.T, path string, whole []byte) {
	t.Helper()
	text := read(t, path)
	tlstest.Put(t, path, append(bytes.Clone(whole), text[:len(text)/2]...))
}

func TestOpenNamesTheFileThatIsWrong(t *testing.T) {
	paths := tlstest.New(t).Write(t.TempDir(), "agent")
	for field, p := range map[string]tlsfiles.Paths{
		"CA":        {CA: "/no/such/file"},
		"Cert":      {Cert: "/no/such/file", Key: paths.Key},
		"Key":       {Cert: paths.Cert, Key: "/no/such/file"},
		"Cert, Key": {Cert: paths.CA, Key: paths.Key},
	} {
		_, err := tlsfiles.Open(p, "etcd", zap.NewNop())
		var bad *tlsfiles.Error
		if !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if files, err := tlsfiles.Open(tlsfiles.Paths{Cert: paths.Cert, Key: paths.Key}, "etcd", zap.NewNop()); err != nil {
		t.Error(err)
	} else if cfg := config(t, files); cfg.RootCAs != nil {
		t.Error("without a CA file, it is not the system's authorities that are trusted")
	}
}

func TestWhatExpiresIsWarnedOf(t *testing.T) {
	authority := tlstest.New(t)
	paths := authority.Write(t.TempDir(), "agent")
	until := func(left time.Duration) {
		cert, key := authority.Sign("agent", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		tlstest.Put(t, paths.Cert, cert)
		tlstest.Put(t, paths.Key, key)
	}
	files, logs := opened(t, paths)
	for _, c := range []struct {
		left time.Duration // of two days
		want string
	}{
		{24 * time.Hour, ""},
		{9 * time.Hour, "a certificate expires soon"},
		{-time.Hour, "a certificate has expired"},
		{8 * time.Hour, "a certificate expires soon"},
	} {
		until(c.left)
		for range 3 {
			config(t, files)
		}
		warned := logs.TakeAll()
		if c.want == "" && len(warned) != 0 || c.want != "" && (len(warned) != 1 || warned[0].Message != c.want) {
			t.Errorf("with %v left: warned of %v, want %q once", c.left, warned, c.want)
		}
	}
}
