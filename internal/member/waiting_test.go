package member

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// errGodot is the error that the wait of this test ends with.
var errGodot = errors.New("he does not come")

func TestWhoeverWaitsSaysForWhatAtGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		log := zap.New(core)
		wait := func(takes time.Duration) error {
			w := Wait{For: "godot"}
			return During(t.Context(), log, nil, w, func() error { time.Sleep(takes); return errGodot })
		}
		err := wait(999 * time.Millisecond)
		if !errors.Is(err, errGodot) || err.Error() != errGodot.Error() {
			t.Errorf("error %v", err)
		}
		if logs.Len() != 0 {
			t.Errorf("a short wait was told of: %v", logs.All())
		}
		err = wait(20*time.Second + 1)
		if !errors.Is(err, errGodot) ||
			!strings.Contains(err.Error(), "he does not come (after 20s of waiting for godot)") {
			t.Errorf("error %v", err)
		}
		var waited []time.Duration
		for _, e := range logs.All() {
			waited = append(waited, e.ContextMap()["waited"].(time.Duration))
			if e.Message != "waiting for godot" || e.Level != zapcore.InfoLevel {
				t.Errorf("line %v", e)
			}
		}
		if len(waited) != 5 || waited[0] != time.Second || waited[4] != 16*time.Second {
			t.Errorf("told after %v", waited)
		}
	})
}
