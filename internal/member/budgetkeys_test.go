package member

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
)

// foundKey is an answer of a keyFinder.
type foundKey struct {
	id, key string
	found   bool
}

// newKeyFinder makes a keyFinder whose answers come out of the channel.
func newKeyFinder(
	t *testing.T, timeout time.Duration, key func(string, []byte) (string, error),
) (*keyFinder, chan foundKey) {
	t.Helper()
	answers := make(chan foundKey, 2*mostHangingKeys)
	log := failures.New(zap.NewNop())
	t.Cleanup(log.Close)
	return &keyFinder{
		key: key, timeout: timeout, failures: log,
		post: func(f func(time.Duration)) bool { f(0); return true },
		answer: func(_ time.Duration, _ int, id string, _ int64, key string, found bool) {
			answers <- foundKey{id, key, found}
		},
	}, answers
}

func TestEachKeyIsAnsweredOnceWhateverTheUsersCodeDoes(t *testing.T) {
	hang := make(chan struct{})
	f, answers := newKeyFinder(t, 200*time.Millisecond, func(id string, data []byte) (string, error) {
		switch id {
		case "fails":
			return "", errors.New("a panic, as a text")
		case "goexit":
			runtime.Goexit()
		case "hangs":
			<-hang
		}
		return string(data), nil
	})
	for _, id := range []string{"hangs", "fails", "goexit", "good"} {
		f.find(core.Action{Kind: core.FindKey, ID: id, Data: []byte("k")})
	}
	got := map[string]foundKey{}
	for range 4 {
		a := <-answers
		if len(got) < 3 && a.id == "hangs" {
			t.Error("a call that hangs kept the others waiting")
		}
		got[a.id] = a
	}
	for id, want := range map[string]foundKey{
		"good": {"good", "k", true}, "fails": {"fails", "", false}, "goexit": {"goexit", "", false},
		"hangs": {"hangs", "", false},
	} {
		if got[id] != want {
			t.Errorf("%s: %+v", id, got[id])
		}
	}
	if n := f.hanging.Load(); n != 1 {
		t.Errorf("%d calls hang, want 1", n)
	}
	close(hang)
	for deadline := time.Now().Add(10 * time.Second); f.hanging.Load() != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("a call that returned counts as hanging")
		}
	}
	if len(answers) > 0 {
		t.Errorf("a second answer: %+v", <-answers)
	}
}

func TestCodeThatAlwaysHangsIsNotCalledWithoutEnd(t *testing.T) {
	var calls atomic.Int64
	hang := make(chan struct{})
	f, answers := newKeyFinder(t, time.Millisecond, func(string, []byte) (string, error) {
		calls.Add(1)
		<-hang
		return "", nil
	})
	for range mostHangingKeys {
		f.find(core.Action{})
		<-answers
	}
	f.find(core.Action{})
	if a := <-answers; a.found {
		t.Errorf("%+v", a)
	}
	close(hang)
	for deadline := time.Now().Add(10 * time.Second); f.hanging.Load() != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("calls that returned count as hanging")
		}
	}
	if n := calls.Load(); n != mostHangingKeys {
		t.Errorf("called %d times, want %d", n, mostHangingKeys)
	}
}
