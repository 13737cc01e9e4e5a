package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// slowItems are items of an answer that are all bad, and take long to be checked.
type slowItems struct {
	unmodified
	takes time.Duration
}

var errAllBad = errors.New("all bad")

func (s slowItems) Fetch(context.Context) Answer            { return Answer{Items: s} }
func (s slowItems) Check() ([]catalogue.Item, BadItems)     { <-time.After(s.takes); return nil, s }
func (slowItems) Count() int                                { return 1 }
func (slowItems) Digest() uint64                            { return 1 }
func (slowItems) Keep() (ids map[string]struct{}, all bool) { return nil, true }
func (slowItems) First() []BadItem                          { return []BadItem{{Index: 0, Error: "bad"}} }
func (slowItems) AddTooLarge(string)                        {}
func (slowItems) AsError(string) error                      { return errAllBad }

// A million items take a while to be checked, which is no fault of the source.
func TestTheCheckOfAnAnswerDoesNotCountAsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term := pausing(Options{
			Retriever: slowItems{takes: time.Minute}, FetchTimeout: time.Second, Log: zap.NewNop(),
			FetchReturned: func() {},
		})
		defer term.timers.stop()
		_, err := term.apply(t.Context(), 1)
		var failed *sourceError
		if !errors.As(err, &failed) || !errors.Is(failed.Err, errAllBad) || failed.hangs {
			t.Errorf("got %v, want the refusal of the bad items", err)
		}
		if term.source.Hangs() {
			t.Error("the Fetch counts as one that has not returned")
		}
	})
}
