package lives_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/lives"
)

// service answers with names, one after the other.
type service struct {
	lives.Lives
	now time.Time
}

// answers hears n answers, with a pause before each.
func (s *service) answers(n int, pause time.Duration, name func(i int) string) {
	for i := range n {
		s.now = s.now.Add(pause)
		if name := name(i); s.Number() == 0 || name != s.Name() {
			s.Begin(s.now)
			s.Call(name, s.now)
		}
	}
}

func (s *service) wantTurns(t *testing.T, want bool) {
	t.Helper()
	if got := s.TakeTurns(s.now); got != want {
		t.Errorf("they take turns: %v, want %v", got, want)
	}
}

func among(n int) func(int) string { return func(i int) string { return fmt.Sprint("n", i%n) } }

func fresh(i int) string { return fmt.Sprint("fresh", i) }

func TestANameThatComesBackIsNoLife(t *testing.T) {
	for _, n := range []int{2, 20, 1000} {
		s := service{now: time.Now()}
		s.answers(n, 5*time.Second, among(n))
		s.wantTurns(t, false) // each name is new
		s.answers(1, 5*time.Second, among(n))
		s.wantTurns(t, true)
		if s.Number() != int32(n+1) {
			t.Errorf("%d lives", s.Number())
		}
		s.now = s.now.Add(10 * time.Minute)
		s.wantTurns(t, false)
	}
}

func TestNoMoreThanAThousandNamesAreRemembered(t *testing.T) {
	s := service{now: time.Now()}
	const n = 3000
	s.answers(n, 5*time.Second, fresh)
	s.answers(1, 5*time.Second, func(int) string { return fresh(n - 1026) })
	s.wantTurns(t, false) // it was forgotten
	s.answers(1, 5*time.Second, func(int) string { return fresh(n - 1000) })
	s.wantTurns(t, true)
}

// A service that makes a name for each answer, or so many instances that no name comes back, are no lives either.
func TestNamesThatChangeTooOftenAreNoLives(t *testing.T) {
	s := service{now: time.Now()}
	s.answers(16, time.Second, fresh)
	s.wantTurns(t, false)
	s.answers(1, time.Second, func(int) string { return "and another" })
	s.wantTurns(t, true)
}

// Whatever crashes and is started again has a new name each time, and none comes back.
func TestAServiceThatCrashesAgainAndAgainHasLives(t *testing.T) {
	for _, pause := range []time.Duration{2 * time.Second, 5 * time.Second, time.Minute} {
		s := service{now: time.Now()}
		for i := range 200 {
			s.answers(1, pause, func(int) string { return fresh(i) })
			s.wantTurns(t, false)
		}
	}
}

func TestAnAnswerToAnOldQuestionMayBeThatOfAnEarlierLife(t *testing.T) {
	s := service{now: time.Now()}
	if s.WasBefore(s.now) {
		t.Error("nobody was there before")
	}
	s.answers(2, time.Second, fresh)
	if !s.Since().Equal(s.now) || s.WasBefore(s.now) || !s.WasBefore(s.now.Add(-1)) {
		t.Errorf("the life began at %v, want %v", s.Since(), s.now)
	}
}
