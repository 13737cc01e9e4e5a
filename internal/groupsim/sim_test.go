package groupsim

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/schedule"
)

// mostEvents is how many events a random plan has at most.
const mostEvents = 20

// simulation is this one. rapid draws always the same plans, since TestSoak is there to find others.
var simulation = schedule.Simulation[Plan, *Counts]{
	Package: "internal/groupsim", Prefix: "DRM_GROUPSIM", Schedules: 1000, Short: 200, Enough: 200, Seed: "1",
	Draw:   func(s schedule.Source) Plan { return Draw(s, mostEvents) },
	Random: Random,
	Run: func(p Plan, opts Options) (*schedule.Result, *Counts) {
		res := Run(p, opts)
		return &res.Result, &res.Counts
	},
	Shrink: shrink,
	Zero:   func() *Counts { return &Counts{} },
}

func TestReplay(t *testing.T)                              { simulation.TestReplay(t) }
func TestSoak(t *testing.T)                                { simulation.TestSoak(t) }
func TestFirstFailure(t *testing.T)                        { simulation.TestFirstFailure(t) }
func TestNoScheduleBreaksARule(t *testing.T)               { simulation.TestAll(t) }
func TestNoScheduleThatRapidDrawsBreaksARule(t *testing.T) { simulation.TestDrawn(t) }
func TestSamePlanGivesSameRun(t *testing.T)                { simulation.TestSame(t, 10) }

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
		for _, simpler := range Simplifications() {
			q := p
			if simpler(&q); !reflect.DeepEqual(p, q) && fails(q) {
				p, again = q, true
			}
		}
	}
	return p
}

func TestUnknownKindOfEventIsRefused(t *testing.T) {
	var e Event
	err := json.Unmarshal([]byte(`{"Kind":"flood"}`), &e)
	if err == nil || !strings.Contains(err.Error(), `got "flood", want one of [start`) {
		t.Fatalf("error %v", err)
	}
}
