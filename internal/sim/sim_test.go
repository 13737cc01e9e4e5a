package sim

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/schedule"
)

// mostFaults is how many faults a random plan has at most.
const mostFaults = 24

// simulation is this one.
var simulation = schedule.Simulation[Plan, *Counts]{
	Package: "internal/sim", Prefix: "DRM_SIM", Schedules: 5_000, Short: 1000, Enough: 5000,
	Draw:   func(s schedule.Source) Plan { return Draw(s, mostFaults) },
	Random: Random,
	Run: func(p Plan, opts Options) (*schedule.Result, *Counts) {
		res := Run(p, opts)
		return &res.Result, &res.Counts
	},
	Shrink: Shrink,
	Zero:   func() *Counts { return &Counts{} },
}

func TestReplay(t *testing.T)                                   { simulation.TestReplay(t) }
func TestSoak(t *testing.T)                                     { simulation.TestSoak(t) }
func TestFirstFailure(t *testing.T)                             { simulation.TestFirstFailure(t) }
func TestNoScheduleBreaksThePromise(t *testing.T)               { simulation.TestAll(t) }
func TestNoScheduleThatRapidDrawsBreaksThePromise(t *testing.T) { simulation.TestDrawn(t) }
func TestSamePlanGivesSameRun(t *testing.T)                     { simulation.TestSame(t, 20) }

// A receiver that knows only tokens cannot tell a late request from a new one. It is right only because members wait
// for its answers.
func TestReceiversThatKnowTokensNeedTheirCallsFinished(t *testing.T) {
	for seed := range uint64(1000) {
		p := Draw(Random(seed), mostFaults)
		p.Receivers, p.FinishCalls = KnowTokens, false
		if err := Run(p, Options{}).Err; err != nil {
			if !strings.Contains(err.Error(), "which its member has ended") {
				t.Errorf("seed %d: %v", seed, err)
			}
			return
		}
	}
	t.Error("1000 schedules in which requests are cut off, and all is well")
}

func TestUnknownKindOfFaultIsRefused(t *testing.T) {
	var f Fault
	err := json.Unmarshal([]byte(`{"Kind":"flood"}`), &f)
	if err == nil || !strings.Contains(err.Error(), `got "flood", want one of [crash`) {
		t.Fatalf("error %v", err)
	}
}

func TestShrinkLeavesWhatMakesItFail(t *testing.T) {
	has := func(p Plan, k Kind) bool {
		for _, f := range p.Faults {
			if f.Kind == k && f.For >= time.Second {
				return true
			}
		}
		return false
	}
	fails := func(p Plan) bool { return has(p, Pause) && has(p, Elect) && p.Resources > 2 }
	found := 0
	for seed := uint64(0); found < 5; seed++ {
		p := Draw(Random(seed), mostFaults)
		if !fails(p) {
			continue
		}
		found++
		q := Shrink(p, fails)
		if !fails(q) || len(q.Faults) != 2 || q.Resources != 3 || q.Members != 2 || q.Lossy+q.Slow+q.Bad+q.Skew != 0 {
			t.Errorf("shrunk to %+v", q)
		}
	}
}
