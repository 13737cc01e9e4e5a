package handler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// said is a validity that keeps what a claim was told.
type said struct{ reports, fails []error }

func (*said) Remaining() time.Duration { return time.Hour }
func (s *said) Report(err error)       { s.reports = append(s.reports, err) }
func (s *said) Fail(err error)         { s.fails = append(s.fails, err) }

func TestOnlyWhatStaysStoppedIsGivenUp(t *testing.T) {
	stopped := errors.New("stopped")
	for _, tc := range []struct {
		name     string
		patience time.Duration
		events   func(s *condition)
		want     int
	}{
		{"it stays so", 5 * time.Second, func(s *condition) { s.halted(stopped) }, 1},
		{"it goes on", 5 * time.Second, func(s *condition) {
			s.halted(stopped)
			<-time.After(4 * time.Second)
			s.halted(nil)
		}, 0},
		{"it goes on, and is stopped again", 5 * time.Second, func(s *condition) {
			for range 5 {
				s.halted(stopped)
				<-time.After(4 * time.Second)
				s.halted(nil)
			}
		}, 0},
		{"it is stopped by another signal", 5 * time.Second, func(s *condition) {
			s.halted(stopped)
			s.halted(stopped)
		}, 1},
		{"nobody wants that", drm.Forever, func(s *condition) { s.halted(stopped) }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			told := &said{}
			c := drm.NewClaim("app", "m", drm.Resource{ID: "a"}, 1, told)
			s := newCondition(context.Background(), c, tc.patience)
			tc.events(s)
			<-time.After(time.Minute)
			synctest.Wait()
			if len(told.fails) != tc.want || len(told.fails) > 0 && !errors.Is(told.fails[0], stopped) {
				t.Errorf("%s: the claim failed because of %v", tc.name, told.fails)
			}
		})
	}
}
