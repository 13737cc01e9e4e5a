package calls_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// among returns names that instances have which answer in turns, and fresh ones that never repeat.
func among(n int) func(i int) string { return func(i int) string { return fmt.Sprint("n", i%n) } }

func fresh(i int) string { return fmt.Sprint("fresh", i) }

// No life of a service comes back, and none ends as soon as it has answered. So if the names say that, several
// instances answer in turns, and each goes on with what it was given.
func TestWhereInstancesTakeTurnsEverythingIsTerminated(t *testing.T) {
	for what, name := range map[string]func(int) string{
		"two": among(2), "twenty": among(20), "another name each time": fresh,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &service{}
				s := newStage(t, v.user())
				var ids []string
				for i := range 30 {
					ids = append(ids, fmt.Sprintf("r%02d", i))
					v.restart(name(i), nil)
					s.Handle(s.clock.Now(), handle(ids[i]), s.lease)
					s.run(time.Second)
				}
				for _, id := range ids {
					s.terminate(id)
				}
				if !slices.Equal(v.ended, ids) {
					t.Errorf("terminated %q, want all of them", v.ended)
				}
			})
		})
	}
}

// A service that crashes again and again has lives all the same. None of them is told to end what it never had.
func TestWhereAServiceCrashesAgainAndAgainNothingIsTerminatedThatItNeverHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: fresh(0)}
		s := v.asking(t)
		for i := range 10 {
			s.Handle(s.clock.Now(), handle(fmt.Sprint("r", i)), s.lease)
			s.run(time.Second)
			v.restart(fresh(i+1), nil)
			s.run(4 * time.Second)
		}
		s.Handle(s.clock.Now(), handle("last"), s.lease)
		s.run(time.Second)
		for i := range 10 {
			s.terminate(fmt.Sprint("r", i))
		}
		s.terminate("last")
		if !slices.Equal(v.ended, []string{"last"}) {
			t.Errorf("terminated %q, want the last one alone", v.ended)
		}
	})
}
