package listen_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/listen"
)

// open listens at an address until the test ends.
func open(t *testing.T, text string) net.Listener {
	t.Helper()
	a, err := listen.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// reaches returns nil if somebody listens.
func reaches(l net.Listener) error {
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestOnlyAddressesOfThisMachineAreAccepted(t *testing.T) {
	for _, text := range []string{"127.0.0.1:0", "127.9.9.9:80", "[::1]:65535", ":0", "localhost:0", "LocalHost:1"} {
		if _, err := listen.Parse(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"0.0.0.0:80", "[::]:80", "10.0.0.1:80", "192.168.0.1:0", "example.org:80", "localhost.example.org:1",
		"[fe80::1]:1", "*:80", "127.1:80",
	} {
		if _, err := listen.Parse(text); !errors.Is(err, listen.ErrNotLoopback) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "80", "localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
		"127.0.0.1:080", "http://127.0.0.1:80", "127.0.0.1:+1",
	} {
		if _, err := listen.Parse(text); !errors.Is(err, listen.ErrForm) {
			t.Errorf("%s: %v", text, err)
		}
	}
	long := "unix:/" + strings.Repeat("a", 103)
	for _, text := range []string{"unix:", "unix:a.sock", "unix:@a", "unix:/a\x00b", long} {
		if _, err := listen.Parse(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// The system's own error for a path that is too long is "invalid argument".
func TestTheLongestPathThatIsAcceptedWorks(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "l")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for len(dir) < 88 {
		dir += "/" + strings.Repeat("d", min(20, 87-len(dir)))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := listen.Parse("unix:" + dir + "d/s"); err == nil {
		t.Error("a longer folder is accepted")
	}
	open(t, "unix:"+dir+"/"+strings.Repeat("s", 102-len(dir)))
}

func TestAFreePortIsTaken(t *testing.T) {
	for _, text := range []string{":0", "localhost:0", "127.0.0.1:0"} {
		l := open(t, text)
		url := listen.URL(l)
		if !strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasSuffix(url, ":0") {
			t.Errorf("%s: it listens at %s", text, url)
		}
		if err := reaches(l); err != nil {
			t.Error(err)
		}
	}
}

func TestAUnixSocketIsForItsUserOnlyAndIsRemovedAtTheEnd(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have other modes there")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	for _, text := range []string{"unix:" + path, "unix://" + path} {
		l := open(t, text)
		if listen.URL(l) != "unix:"+path {
			t.Errorf("it listens at %s", listen.URL(l))
		}
		if err := reaches(l); err != nil {
			t.Error(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("its file: %v, %v", info, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestASocketIsReplacedOnlyIfNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	a, err := listen.Parse("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := a.Listen(t.Context()); !errors.Is(err, listen.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second listener: %v, %v", l, err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false) // as if its process had been killed
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	l := open(t, "unix:"+path)
	if err := reaches(l); err != nil {
		t.Error(err)
	}
	// What takes its place is not removed with it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a foreign file was removed: %v", err)
	}
	if l, err := a.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("in place of a file: %v, %v", l, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	missing, err := listen.Parse("unix:" + filepath.Join(t.TempDir(), "none", "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := missing.Listen(ctx); err == nil {
		t.Errorf("in a folder that does not exist: %v", l)
	}
}
