//go:build linux || darwin

package handler_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func init() { programs["__chatty"] = chattyMain }

// chattyMain prints args[1] lines of about args[0] bytes, a few bytes at a time, and ends. Each line repeats one
// character.
func chattyMain(args []string) int {
	var length, count int
	_, _ = fmt.Sscan(args[0], &length)
	_, _ = fmt.Sscan(args[1], &count)
	mark := os.Getenv("DRM_RESOURCE_ID")[:1]
	for range count {
		for left := length; left > 0; left -= 1000 {
			_, _ = os.Stdout.WriteString(strings.Repeat(mark, min(left, 1000)))
		}
		_, _ = os.Stdout.WriteString("\n")
	}
	_, _ = os.Stderr.WriteString("end without an end of line")
	return 0
}

// runChatty runs one chatty process for each id, and returns when all have ended by themselves.
func runChatty(t testing.TB, cfg handler.ExecConfig, length, count int, ids ...string) {
	t.Helper()
	ended := make(chan struct{}, len(ids))
	cfg.Command = []string{os.Args[0], "__chatty", fmt.Sprint(length), fmt.Sprint(count)}
	cfg.Backoff = time.Hour
	cfg.OnExit = func(drm.Claim, error) { ended <- struct{}{} }
	e, err := handler.NewExec(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := e.Handle(t.Context(), claim(id, 1)); err != nil {
			t.Error(err)
		}
	}
	for range ids {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a process does not end")
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestExecPutsTheResourceBeforeEachLine(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer // the race detector notices if the handler does not guard them
	runChatty(t, handler.ExecConfig{Output: handler.OutputPrefix, Stdout: &out, Stderr: &errs}, 3, 2, "a", "b c")
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	slices.Sort(got)
	if want := []string{`["b c"] bbb`, `["b c"] bbb`, "[a] aaa", "[a] aaa"}; !slices.Equal(got, want) {
		t.Errorf("stdout: %q, want %q", got, want)
	}
	got = strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
	slices.Sort(got)
	if want := []string{
		`["b c"] end without an end of line`,
		"[a] end without an end of line",
	}; !slices.Equal(got, want) {
		t.Errorf("stderr: %q, want %q", got, want)
	}
	var both bytes.Buffer // must keep the order in which the process printed
	runChatty(t, handler.ExecConfig{Output: handler.OutputPrefix, Stdout: &both, Stderr: &both}, 3, 2, "a")
	if got, want := both.String(), "[a] aaa\n[a] aaa\n[a] end without an end of line\n"; got != want {
		t.Errorf("both: %q, want %q", got, want)
	}
}

func TestExecThrowsOutputAway(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	runChatty(t, handler.ExecConfig{Output: handler.OutputNone, Stdout: &out, Stderr: &out}, 3, 2, "a")
	if out.Len() > 0 {
		t.Errorf("got %q", out.String())
	}
}

// tearing is a writer that checks that each Write has whole lines.
type tearing struct {
	mu    sync.Mutex
	parts []string
}

func (w *tearing) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, string(b))
	return len(b), nil
}

func TestExecDoesNotMixTheLinesOfProcesses(t *testing.T) {
	t.Parallel()
	const length, count = 5000, 200
	ids := []string{"a", "b", "c", "d"}
	out := &tearing{}
	runChatty(t, handler.ExecConfig{Output: handler.OutputPrefix, Stdout: out, Stderr: out}, length, count, ids...)
	lines := map[string]int{}
	for _, part := range out.parts {
		if !strings.HasSuffix(part, "\n") {
			t.Fatalf("a Write ends with %q", part[max(0, len(part)-20):])
		}
		for line := range strings.Lines(part) {
			lines[line]++
		}
	}
	for _, id := range ids {
		if n := lines["["+id+"] "+strings.Repeat(id, length)+"\n"]; n != count {
			t.Errorf("%s: %d whole lines, want %d", id, n, count)
		}
	}
	if len(lines) != 2*len(ids) {
		t.Errorf("%d different lines, want %d", len(lines), 2*len(ids))
	}
}

// A writer that takes nothing must not keep processes from their work.
func TestExecDoesNotHoldUpProcessesForAWriterThatTakesNothing(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	defer close(free)
	blocked := writerFunc(func(b []byte) (int, error) { <-free; return len(b), nil })
	cfg := handler.ExecConfig{Output: handler.OutputPrefix, Stdout: blocked, Stderr: blocked}
	runChatty(t, cfg, 5000, 1000, "a", "b")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestExecRefusesAnUnknownOutput(t *testing.T) {
	t.Parallel()
	for _, o := range []handler.Output{-1, 3} {
		_, err := handler.NewExec(handler.ExecConfig{Command: []string{"true"}, Output: o})
		wantInputError(t, err, "Output")
	}
}

// BenchmarkExecOutput measures how fast four processes can print 32 MiB each.
func BenchmarkExecOutput(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for name, output := range map[string]handler.Output{"raw": handler.OutputRaw, "prefix": handler.OutputPrefix} {
		for _, length := range []int{100, 1000} {
			b.Run(fmt.Sprint(name, "/", length), func(b *testing.B) {
				b.SetBytes(4 * 32 << 20)
				for b.Loop() {
					cfg := handler.ExecConfig{Output: output, Stdout: null, Stderr: null}
					runChatty(b, cfg, length, (32<<20)/length, "a", "b", "c", "d")
				}
			})
		}
	}
}
