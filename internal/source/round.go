package source

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// fetchPauses makes the pauses after failed attempts: 1, 2, 4, … s, up to longest. A random part of up to a quarter
// shortens each.
func fetchPauses(longest time.Duration) *pace.Pauses { return pace.New(time.Second, longest, 0.25) }

// leastPause is how long nobody asks a source that has just failed, whatever happens: events without end must not make
// the coordinator ask without end.
const leastPause = time.Second

// verdict is the result of a round of fetches.
type verdict struct {
	err   error // why the round failed; nil if an answer became the catalogue
	over  bool  // the term has ended, or must end
	lost  bool  // the source has failed for all of the budget; otherwise it is asked again at the next poll
	hangs bool  // a Fetch does not return, so that another member must ask
}

// round fetches, and tries again, until an answer has become the catalogue, or trying again makes no sense.
func (t *Term) round(ctx context.Context) verdict {
	longest := time.Minute
	if t.o.PollInterval > 0 {
		longest = min(longest, t.o.PollInterval) // a source that works again is not asked later than a poll would have
	}
	began := t.o.Now()
	for pauses := fetchPauses(longest); ; {
		t.hear()
		err := t.fetch(ctx)
		if err == nil {
			t.failing = Forever
			return verdict{}
		}
		if ctx.Err() != nil || isEndOfTerm(err) {
			return verdict{err: err, over: true}
		}
		t.calm = t.o.Now() + min(leastPause, longest)
		pause := pauses.Next()
		var f failed
		if source, is := err.(*sourceError); is { //nolint:errorlint // nothing wraps it, and it does not unwrap
			f = t.sourceFailed(source, began, pause)
		} else {
			f = t.etcdFailed(err, pause)
			if !t.fresh {
				began = t.o.Now() + f.wait
			}
		}
		over := f.hangs && t.hangsForGood() || !f.again || t.exceeds(began, f.wait)
		t.tellFailed(f, over)
		if over {
			return verdict{err: f.err, lost: t.exceeds(t.failing, pause), hangs: f.hangs}
		}
		if !t.pause(ctx, f.wait) {
			return verdict{err: context.Cause(ctx), over: true}
		}
	}
}

// failed says what follows from a fetch that failed.
type failed struct {
	message string // the message of the log line
	err     error
	wait    time.Duration // until the next attempt
	again   bool          // whether another attempt makes sense before the next poll
	hangs   bool          // a Fetch does not return
}

// sourceFailed judges a failure of the source, and tells the user. began is when the round began, and pause the next
// pause of it.
func (t *Term) sourceFailed(source *sourceError, began, pause time.Duration) failed {
	t.source.calls.tell(source.Err)
	t.failing = min(t.failing, began)
	return failed{
		message: "cannot fetch from the source", err: source.Err, hangs: source.hangs,
		wait: max(pause, t.notBefore-t.o.Now()), again: !source.Advised || source.Again,
	}
}

// etcdFailed judges a failure of etcd. The fetch is tried again until the term ends, so that no member that can handle
// resources ends because of it. Only for the first fetch of a fresh app such a failure counts against the budget,
// because a Start waits for that fetch.
func (t *Term) etcdFailed(err error, pause time.Duration) failed {
	t.failing = Forever
	var limit *txn.LimitError
	return failed{
		message: "etcd failed; cannot update the catalogue from the source", err: err, wait: pause,
		again: !t.fresh || !errors.As(err, &limit), // only a restart of etcd with other flags changes its limits
	}
}

// hear forgets all requests to ask the source, because it is asked now.
func (t *Term) hear() {
	t.source.news.Store(false)
	select {
	case <-t.asked:
	default:
	}
}

// pause waits after a fetch that failed. It ends early for whatever makes the coordinator ask the source at other
// times: a Refetch at once, a change of membership when that has settled. But it does not end while the source wants to
// be left alone, or right after the failure. Meanwhile the term carries out orders of operators. pause returns false if
// ctx ended first.
func (t *Term) pause(ctx context.Context, wait time.Duration) bool {
	until := t.o.Now() + wait
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return true
		case <-t.changed:
			t.settleAnew()
			continue
		case <-t.timers.vouch.C:
			t.writeVouch(ctx)
			continue
		case <-t.orders.news:
			t.obey(ctx) // if it fails, it is called again after the round
			continue
		case <-t.timers.settle.C:
		case <-t.asked:
		}
		early := t.early()
		if early == 0 {
			return true
		}
		end.Reset(min(early, until-t.o.Now()))
	}
}

// tellFailed logs that a fetch failed, and when the next attempt follows, unless the round is over. While Start waits
// for the first fetch, each failure makes a line of its own.
func (t *Term) tellFailed(f failed, over bool) {
	line := failures.Failure{Message: f.message, Level: zap.WarnLevel, Error: f.err.Error()}
	if !over {
		line.Fields = []zap.Field{zap.Duration("retry_in", f.wait.Round(time.Millisecond))}
	}
	if t.fresh {
		t.o.Log.Warn(line.Message, append(line.Fields, zap.String("error", line.Error))...)
	} else {
		t.o.Failures.Add(line)
	}
}

// hangsForGood says whether a Fetch has taken twice FetchTimeout, so that this member should leave the office to
// another, however long the budget is. If the end of the budget ends the member, the member waits for that instead.
func (t *Term) hangsForGood() bool {
	if t.o.ExitOnError && t.o.RetryBudget != Forever {
		return false
	}
	since, yes := t.source.calls.hangs()
	return yes && t.o.Now()-since >= 2*t.o.FetchTimeout
}

// exceeds says whether a budget that began at a time will be used up after a pause.
func (t *Term) exceeds(began, pause time.Duration) bool {
	return t.o.RetryBudget != Forever && began != Forever && t.o.Now()-began+pause > t.o.RetryBudget
}
