package groupsim

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mostEvents is how many events a random plan has at most.
const mostEvents = 20

// draws makes rapid a Source.
type draws struct{ t *rapid.T }

func (d draws) Choose(name string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, name) }

// checks sets how many plans rapid tries: always the same ones, since TestSoak is there to find others.
func checks(t *testing.T, n int) {
	for name, value := range map[string]string{"rapid.checks": strconv.Itoa(n), "rapid.seed": "1"} {
		f := flag.Lookup(name)
		before := f.Value.String()
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(before) })
	}
}

// schedules returns how many random plans are run: DRM_GROUPSIM_SCHEDULES, or 1,000; with -short, a fifth of that.
func schedules(t *testing.T) int {
	s := os.Getenv("DRM_GROUPSIM_SCHEDULES")
	switch {
	case s == "" && testing.Short():
		return 200
	case s == "":
		return 1000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("DRM_GROUPSIM_SCHEDULES is %q, want a positive number", s)
	}
	return n
}

// summary is the result of many runs.
type summary struct {
	begun, runs, steps int
	took               time.Duration
	counts             Counts
	failed             *failure // that of the lowest seed
}

// failure is a run in which something was wrong.
type failure struct {
	seed uint64
	plan Plan
	err  error
}

func (s summary) String() string {
	return fmt.Sprintf("%d schedules, %d steps, %v of virtual time\n%v",
		s.runs, s.steps, s.took.Round(time.Minute), &s.counts)
}

// explore runs the plans of the seeds from first on, on all processors, for as long as more returns true. It stops at a
// failure, and reports the one with the lowest seed of those that have begun.
func explore(first uint64, more func(sofar *summary) bool) summary {
	var (
		mu  sync.Mutex
		sum summary
		wg  sync.WaitGroup
	)
	next := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if sum.failed != nil || !more(&sum) {
			return 0, false
		}
		sum.begun++
		return first + uint64(sum.begun-1), true
	}
	take := func(seed uint64, p Plan, res *Result) {
		mu.Lock()
		defer mu.Unlock()
		sum.runs++
		sum.steps += res.Steps
		sum.took += res.Took
		sum.counts.Add(&res.Counts)
		if res.Err != nil && (sum.failed == nil || seed < sum.failed.seed) {
			sum.failed = &failure{seed, p, res.Err}
		}
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed, ok := next(); ok; seed, ok = next() {
				p := Draw(Random(seed), mostEvents)
				res := Run(p, Options{})
				take(seed, p, &res)
			}
		})
	}
	wg.Wait()
	return sum
}

func upTo(n int) func(*summary) bool { return func(sum *summary) bool { return sum.begun < n } }

// report describes a failure, or a simpler one where there is any, and says how to see it again.
func (f *failure) report() string {
	p := shrink(f.plan, func(p Plan) bool { return Run(p, Options{}).Err != nil })
	return fmt.Sprintf("seed %d: %v\nshrunk: %v\n%s", f.seed, f.err, Run(p, Options{}).Err, tell(p))
}

// shrink looks for a simpler plan for which fails still returns true.
func shrink(p Plan, fails func(Plan) bool) Plan {
	for again := true; again; {
		again = false
		for n := max(1, len(p.Events)/2); n > 0; n /= 2 {
			for i := 0; i+n <= len(p.Events); {
				q := p
				q.Events = slices.Concat(p.Events[:i], p.Events[i+n:])
				if fails(q) {
					p, again = q, true
				} else {
					i += n
				}
			}
		}
		for _, simpler := range []func(*Plan){
			func(q *Plan) { q.Lossy = 0 }, func(q *Plan) { q.Cuts = 0 }, func(q *Plan) { q.Older = 0 },
			func(q *Plan) { q.Clocks = 0 }, func(q *Plan) { q.Lag = 1 }, func(q *Plan) { q.Weighty = 0 },
			func(q *Plan) { q.Uneven = 0 }, func(q *Plan) { q.Ops = 126 },
			func(q *Plan) { q.Shards = max(4, q.Shards/2) },
			func(q *Plan) { q.Members = max(2, q.Members-1) }, func(q *Plan) { q.PerMinute = 1000 },
			func(q *Plan) { q.Moving = 1000 }, func(q *Plan) { q.PerMember = 1000 }, func(q *Plan) { q.Versions = 1 },
		} {
			q := p
			if simpler(&q); !reflect.DeepEqual(p, q) && fails(q) {
				p, again = q, true
			}
		}
	}
	return p
}

// tell prints a plan, how to replay it, and what happens in it: only the end of that, unless DRM_GROUPSIM_TRACE
// asks for all.
func tell(p Plan) string {
	lines := Run(p, Options{Trace: true}).Trace
	if os.Getenv("DRM_GROUPSIM_TRACE") == "" {
		lines = lines[max(0, len(lines)-60):]
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s\n%+v\nreplay it, from the top of the module, with:\n\n    DRM_GROUPSIM_TRACE=1 "+
		"DRM_GROUPSIM_PLAN='%s' go test -count=1 -run '^TestReplay$' ./internal/groupsim\n",
		strings.Join(lines, "\n"), p, plan)
}

// TestReplay plays the plan, as JSON, of DRM_GROUPSIM_PLAN. Tests that fail print the command.
func TestReplay(t *testing.T) {
	text := os.Getenv("DRM_GROUPSIM_PLAN")
	if text == "" {
		t.Skip("no plan in DRM_GROUPSIM_PLAN")
	}
	var p Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("DRM_GROUPSIM_PLAN: %v", err)
	}
	if res := Run(p, Options{}); res.Err != nil {
		t.Fatalf("%v\n%s", res.Err, tell(p))
	}
}

func TestNoScheduleBreaksARule(t *testing.T) {
	n := schedules(t)
	sum := explore(1, upTo(n))
	t.Logf("%v", sum)
	if sum.failed != nil {
		t.Fatal(sum.failed.report())
	}
	if missing := sum.counts.Missing(); n >= 200 && len(missing) > 0 {
		t.Errorf("the simulation does not try: %s", strings.Join(missing, ", "))
	}
}

// TestFirstFailure runs the schedules 1 to DRM_GROUPSIM_FIRST and says which is the first that breaks a rule. It does
// not make that one simpler, which takes long: `make mutants` only wants to know whether there is one.
func TestFirstFailure(t *testing.T) {
	text := os.Getenv("DRM_GROUPSIM_FIRST")
	if text == "" {
		t.Skip("no number in DRM_GROUPSIM_FIRST")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DRM_GROUPSIM_FIRST is %q, want a positive number", text)
	}
	if f := explore(1, upTo(n)).failed; f != nil {
		t.Fatalf("seed %d: %v", f.seed, f.err)
	}
}

// The plans that rapid draws tend to be small. rapid shrinks those that fail.
func TestNoScheduleThatRapidDrawsBreaksARule(t *testing.T) {
	checks(t, schedules(t)/10)
	rapid.Check(t, func(t *rapid.T) {
		p := Draw(draws{t}, mostEvents)
		if res := Run(p, Options{}); res.Err != nil {
			t.Fatalf("%v\n%s", res.Err, tell(p))
		}
	})
}

func TestSamePlanGivesSameRun(t *testing.T) {
	for i := range uint64(10) {
		p := Draw(Random(i), mostEvents)
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

func TestUnknownKindOfEventIsRefused(t *testing.T) {
	var e Event
	err := json.Unmarshal([]byte(`{"Kind":"flood"}`), &e)
	if err == nil || !strings.Contains(err.Error(), `got "flood", want one of [start`) {
		t.Fatalf("error %v", err)
	}
}

// TestSoak runs schedules that nobody has run before, for as long as SOAK says, and tells every 10 s how far it is.
func TestSoak(t *testing.T) {
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("no duration in SOAK")
	}
	long, err := time.ParseDuration(text)
	if err != nil || long <= 0 {
		t.Fatalf("SOAK is %q, want a positive duration such as 10m", text)
	}
	first := rand.Uint64N(1 << 50)
	fmt.Printf("soak: %v, from seed %d on\n", long, first)
	begun, told := time.Now(), time.Now()
	sum := explore(first, func(sum *summary) bool {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Printf("soak: %v: %v\n", time.Since(begun).Round(time.Second), *sum)
		}
		return time.Since(begun) < long
	})
	fmt.Printf("soak: %v: %v\n", time.Since(begun).Round(time.Second), sum)
	if sum.failed != nil {
		t.Fatal(sum.failed.report())
	}
}
