package sim

import (
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

// schedules is how many random ones are run: DRM_SIM_SCHEDULES, or 2,000; a tenth of it with -short.
func schedules(t *testing.T) int {
	s := os.Getenv("DRM_SIM_SCHEDULES")
	switch {
	case s == "" && testing.Short():
		return 200
	case s == "":
		return 2000
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

// describe tells what a plan is and what happens in it; the end of it, unless DRM_SIM_TRACE asks for all.
func describe(p Plan) string {
	lines := Run(p, Options{Trace: true}).Trace
	if os.Getenv("DRM_SIM_TRACE") == "" {
		lines = lines[max(0, len(lines)-60):]
	}
	return fmt.Sprintf("%+v\n%s", p, strings.Join(lines, "\n"))
}

func TestNoScheduleBreaksThePromise(t *testing.T) {
	checks(t, schedules(t))
	var counts Counts
	var runs, steps int
	var took time.Duration
	rapid.Check(t, func(t *rapid.T) {
		p := Draw(draws{t}, mostFaults)
		res := Run(p, Options{})
		if res.Err != nil {
			t.Fatalf("%v\n%s", res.Err, describe(p))
		}
		counts.Add(res.Counts)
		runs++
		steps += res.Steps
		took += res.Took
	})
	t.Logf("%d schedules, %d steps, %v of virtual time, %+v", runs, steps, took.Round(time.Minute), counts)
	if runs < 1000 {
		return
	}
	all := reflect.ValueOf(counts)
	for i := range all.NumField() {
		if all.Field(i).Int() == 0 {
			t.Errorf("%s never happened: the simulation does not try it", all.Type().Field(i).Name)
		}
	}
}

func TestSamePlanGivesSameRun(t *testing.T) {
	for i := range uint64(20) {
		p := Draw(Random(i), mostFaults)
		a, b := Run(p, Options{Trace: true}), Run(p, Options{Trace: true})
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("plan %d: two runs differ", i)
		}
	}
}
