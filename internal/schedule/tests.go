package schedule

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The tests that every simulation has. Each says what the function of its name must be called in the simulation, where
// other programs rely on that.

// number returns what an environment variable says; 0: it is not set.
func number(t *testing.T, name string) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a positive number", name, text)
	}
	return n
}

// schedules returns how many random plans are run.
func (s *Simulation[P, C]) schedules(t *testing.T) int {
	t.Helper()
	n := number(t, s.Prefix+"_SCHEDULES")
	switch {
	case n > 0:
		return n
	case testing.Short():
		return s.Short
	default:
		return s.Schedules
	}
}

// TestAll runs random plans. It fails if anything is wrong in one, and if something that the simulation counts has not
// happened in any of many.
func (s *Simulation[P, C]) TestAll(t *testing.T) {
	t.Helper()
	n := s.schedules(t)
	sum := s.first(n)
	t.Logf("%v", sum)
	if sum.Failed != nil {
		t.Fatal(s.report(sum.Failed))
	}
	if missing := sum.Counts.Missing(); n >= s.Enough && len(missing) > 0 {
		t.Errorf("the simulation does not try: %s", strings.Join(missing, ", "))
	}
}

// TestDrawn runs plans that rapid draws, a tenth as many as TestAll. They tend to be small, and rapid shrinks those
// that fail.
func (s *Simulation[P, C]) TestDrawn(t *testing.T) {
	t.Helper()
	set := map[string]string{"rapid.checks": strconv.Itoa(s.schedules(t) / 10)}
	if s.Seed != "" {
		set["rapid.seed"] = s.Seed
	}
	for name, value := range set {
		f := flag.Lookup(name)
		before := f.Value.String()
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(before) })
	}
	rapid.Check(t, func(t *rapid.T) {
		p := s.Draw(draws{t})
		if err := s.fails(p); err != nil {
			t.Fatalf("%v\n%s", err, s.Describe(p))
		}
	})
}

// TestFirstFailure runs as many schedules as an environment variable says, and says which is the first that goes wrong.
// It does not make that one simpler, which takes long: `make mutants` only wants to know whether there is one. In a
// simulation, the test's name is the same.
func (s *Simulation[P, C]) TestFirstFailure(t *testing.T) {
	t.Helper()
	name := s.Prefix + "_FIRST"
	n := number(t, name)
	if n == 0 {
		t.Skip("no number in " + name)
	}
	if f := s.first(n).Failed; f != nil {
		t.Fatalf("seed %d: %v", f.Seed, f.Err)
	}
}

// TestReplay plays the plan, as JSON, of an environment variable. Tests that fail print the command. In a simulation,
// the test's name is the same.
func (s *Simulation[P, C]) TestReplay(t *testing.T) {
	t.Helper()
	text := os.Getenv(s.plan())
	if text == "" {
		t.Skip("no plan in " + s.plan())
	}
	var p P
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%s: %v", s.plan(), err)
	}
	if err := s.fails(p); err != nil {
		t.Fatalf("%v\n%s", err, s.Describe(p))
	}
}

// TestSoak runs schedules that nobody has run before, for as long as SOAK says, and tells every 10 s how far it is. In
// a simulation, the test's name is the same: `make soak` asks for it.
func (s *Simulation[P, C]) TestSoak(t *testing.T) {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("no duration in SOAK")
	}
	long, err := time.ParseDuration(text)
	if err != nil || long <= 0 {
		t.Fatalf("SOAK is %q, want a positive duration such as 10m", text)
	}
	first := rand.Uint64N(1 << 50)
	t.Logf("soak: %v, from seed %d on", long, first)
	begun, told := time.Now(), time.Now()
	sum := s.Explore(first, func(sum *Summary[P, C]) bool {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			t.Logf("soak: %v: %v", time.Since(begun).Round(time.Second), sum)
		}
		return time.Since(begun) < long
	})
	t.Logf("soak: %v: %v", time.Since(begun).Round(time.Second), sum)
	if sum.Failed != nil {
		t.Fatal(s.report(sum.Failed))
	}
}

// TestSame checks that the plans of some seeds give the same runs again, also after they were written as JSON.
func (s *Simulation[P, C]) TestSame(t *testing.T, seeds uint64) {
	t.Helper()
	for seed := range seeds {
		p := s.Draw(s.Random(seed))
		a, counts := s.Run(p, Options{Trace: true})
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again P
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		b, sameCounts := s.Run(again, Options{Trace: true})
		if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(counts, sameCounts) {
			t.Fatalf("plan %d: two runs differ", seed)
		}
	}
}
