package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mostFaults is how many faults a random plan has at most.
const mostFaults = 24

// schedules returns how many random plans are run: DRM_SIM_SCHEDULES, or 10,000; with -short, a tenth of that.
func schedules(t *testing.T) int {
	s := os.Getenv("DRM_SIM_SCHEDULES")
	switch {
	case s == "" && testing.Short():
		return 1000
	case s == "":
		return 10_000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("DRM_SIM_SCHEDULES is %q, want a positive number", s)
	}
	return n
}

// draws makes rapid a Source.
type draws struct{ t *rapid.T }

func (d draws) Choose(name string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, name) }

// checks sets how many plans rapid tries.
func checks(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	if err := f.Value.Set(strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

// describe prints a plan, how to replay it, and what happens in it: only the end of that, unless DRM_SIM_TRACE asks for
// all.
func describe(p Plan) string {
	lines := Run(p, Options{Trace: true}).Trace
	if os.Getenv("DRM_SIM_TRACE") == "" {
		lines = lines[max(0, len(lines)-60):]
	}
	return fmt.Sprintf("%s\n%+v\nreplay it, from the top of the module, with:\n\n    %s\n",
		strings.Join(lines, "\n"), p, replay(p))
}

// replay returns the command that runs a plan again, and prints all that happens in it.
func replay(p Plan) string {
	plan, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("DRM_SIM_TRACE=1 DRM_SIM_PLAN='%s' go test -count=1 -run '^TestReplay$' ./internal/sim", plan)
}

// TestReplay plays the plan, as JSON, of DRM_SIM_PLAN. Tests that fail print the command.
func TestReplay(t *testing.T) {
	text := os.Getenv("DRM_SIM_PLAN")
	if text == "" {
		t.Skip("no plan in DRM_SIM_PLAN")
	}
	var p Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("DRM_SIM_PLAN: %v", err)
	}
	if res := Run(p, Options{}); res.Err != nil {
		t.Fatalf("%v\n%s", res.Err, describe(p))
	}
}

func TestNoScheduleBreaksThePromise(t *testing.T) {
	n := schedules(t)
	sum := explore(1, upTo(n))
	t.Logf("%v", sum)
	if sum.failed != nil {
		t.Fatal(sum.failed.report())
	}
	if missing := sum.counts.Missing(); n >= 1000 && len(missing) > 0 {
		t.Errorf("the simulation does not try: %s", strings.Join(missing, ", "))
	}
}

// TestFirstFailure runs the schedules 1 to DRM_SIM_FIRST and says which is the first that breaks the promise. It does
// not make that one simpler, which takes long: `make mutants` only wants to know whether there is one.
func TestFirstFailure(t *testing.T) {
	text := os.Getenv("DRM_SIM_FIRST")
	if text == "" {
		t.Skip("no number in DRM_SIM_FIRST")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DRM_SIM_FIRST is %q, want a positive number", text)
	}
	if f := explore(1, upTo(n)).failed; f != nil {
		t.Fatalf("seed %d: %v", f.seed, f.err)
	}
}

// The plans that rapid draws differ from run to run, and tend to be small. rapid shrinks those that fail.
func TestNoScheduleThatRapidDrawsBreaksThePromise(t *testing.T) {
	checks(t, schedules(t)/10)
	rapid.Check(t, func(t *rapid.T) {
		p := Draw(draws{t}, mostFaults)
		if res := Run(p, Options{}); res.Err != nil {
			t.Fatalf("%v\n%s", res.Err, describe(p))
		}
	})
}

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

func TestSamePlanGivesSameRun(t *testing.T) {
	for i := range uint64(20) {
		p := Draw(Random(i), mostFaults)
		a := Run(p, Options{Trace: true})
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Plan
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if b := Run(again, Options{Trace: true}); !reflect.DeepEqual(a, b) {
			t.Fatalf("plan %d: two runs differ", i)
		}
	}
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
