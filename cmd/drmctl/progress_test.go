package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
)

func TestProgressSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		p    drm.DrainProgress
		want string
	}{
		{drm.DrainProgress{Left: -1}, "nothing is known yet"},
		{drm.DrainProgress{Left: -1, Waiting: "it is joining"}, "it is joining"},
		{drm.DrainProgress{Left: 0, Gone: 3}, "0 left"},
		{
			drm.DrainProgress{Left: 1200, Rate: 33.33, Remaining: 36 * time.Second, Waiting: "it has 1200 resources"},
			"1,200 left, 33.3 a second, about 36s to go; it has 1200 resources",
		},
		{
			drm.DrainProgress{Left: 1, Waiting: "it has 1", Slowest: "r-17", Why: "its terminate runs"},
			`1 left; slowest: "r-17": its terminate runs`,
		},
	} {
		if got := progressWords(tt.p); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.p, got, tt.want)
		}
	}
}

func TestWithoutATerminalProgressIsALineEveryTenSeconds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var lines []string
	n := &noter{
		what: "drain m1", note: func(text string) { lines = append(lines, text) }, last: now,
		now: func() time.Time { return now },
	}
	for i := range 25 {
		n.tell(drm.DrainProgress{Left: 25 - i})
		now = now.Add(time.Second)
	}
	if want := []string{"drain m1: 15 left", "drain m1: 5 left"}; !slices.Equal(lines, want) {
		t.Errorf("it printed %q, want %q", lines, want)
	}
}

func TestOnATerminalProgressIsABarThatIsGoneAtTheEnd(t *testing.T) {
	t.Parallel()
	var drawn bytes.Buffer
	b := newBar(zapcore.Lock(zapcore.AddSync(&drawn)), "drain m1", 80, true)
	why := "it is\n\x1b[31mfailed" + strings.Repeat("x", 100)
	b.tell(drm.DrainProgress{Left: 3, Gone: 1, Slowest: "r-17", Why: why})
	b.end()
	b = newBar(zapcore.Lock(zapcore.AddSync(&drawn)), "undrain m1", 80, true)
	b.end() // before anything is known
}

func TestADrainThatIsNotAwaitedToTheEndSaysWhetherItStands(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("--handler-exec is for Unix")
	}
	l, dir := newLab(t), t.TempDir()
	script, end := filepath.Join(dir, "run.sh"), filepath.Join(dir, "end")
	if err := os.WriteFile(script, []byte(`trap '' TERM; while [ ! -e "$1" ]; do sleep 0.1; done`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m1", "m2"} {
		l.agent(id, "--allocate-only", "--log-level", "error", "--handler-grace", "1m",
			"--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, end))
	}
	l.members(2)
	a := get[assignmentJSON](l, "allocate", "--id", "r", "--create", "--wait")
	free := func() {
		if err := os.WriteFile(end, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(free)
	wait := []string{"drain", a.Member, "--wait", "--reason", "a new kernel", "--as"}

	got := drmctl(t.Context(), append(l.args(), append(wait, "ann", "--timeout", "2s")...)...)
	stands := fmt.Sprintf("the drain of %s stands; drmctl undrain %s takes it back", a.Member, a.Member)
	if got.code != exitFailed || got.stdout != "" {
		t.Errorf("drain --timeout: %+v", got)
	}
	checkOneLine(t, got.stderr, "not drained within 2s", "it ", stands)

	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan outcome, 1)
	go func() { ended <- drmctl(ctx, append(l.args(), append(wait, "bob", "-o", "json")...)...) }()
	eventually(t, func() error {
		if o := get[[]memberJSON](l, "members"); !strings.Contains(fmt.Sprint(o), "bob") {
			return fmt.Errorf("members: %+v", o)
		}
		return nil
	})
	interrupt()
	if got := <-ended; got.code != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, stands) ||
		!strings.HasPrefix(got.stderr, "drmctl: interrupted: ") {
		t.Errorf("drain that is interrupted: %+v", got)
	}

	free()
	l.prints(fmt.Sprintf(`{"member":%q,"drained":true,"done":true}`, a.Member), "drain", a.Member, "--wait")
}
