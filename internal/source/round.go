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

// fetchPauses makes the row of pauses after failed attempts: 1, 2, 4, … s and no more than longest, less up to a
// quarter of it at random.
func fetchPauses(longest time.Duration) *pace.Pauses { return pace.New(time.Second, longest, 0.25) }

// leastPause is how long a source that has just failed is left alone, whoever wants it to be asked: news that come
// without end are no reason to ask it without end.
const leastPause = time.Second

// verdict is what a round of fetches came to.
type verdict struct {
	err   error // nil where a fetch has become the catalogue; of the source's, the text is known
	over  bool  // the term has ended, or is to
	lost  bool  // the source has failed for all of the budget; else it only is not worth asking before the next poll
	hangs bool  // a Fetch does not return: another member is to ask
}

// round fetches, and tries again, until a fetch has become the catalogue, or there is no more trying.
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
		if source, is := err.(*sourceError); is { //nolint:errorlint // nothing wraps it, and nothing looks through it
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

// failed is what follows from a fetch that failed.
type failed struct {
	message string // says in the log what failed
	err     error
	wait    time.Duration // until the next attempt
	again   bool          // whether another attempt makes sense before the next poll
	hangs   bool          // a Fetch does not return
}

// sourceFailed judges a failure of the source, in a round that began at a moment and would pause now. It tells the
// user.
func (t *Term) sourceFailed(source *sourceError, began, pause time.Duration) failed {
	t.source.calls.tell(source.Err)
	t.failing = min(t.failing, began)
	return failed{
		message: "the source cannot be had", err: source.Err, hangs: source.hangs,
		wait: max(pause, t.notBefore-t.o.Now()), again: !source.Advised || source.Again,
	}
}

// etcdFailed judges a failure that the source is not to blame for. Such a fetch is tried again until the term ends, so
// that no member that can handle ends because of it. Only the first fetch of a fresh app takes the budget for it too,
// since a Start waits for that.
func (t *Term) etcdFailed(err error, pause time.Duration) failed {
	t.failing = Forever
	var limit *txn.LimitError
	return failed{
		message: "etcd fails, and the source cannot become the catalogue", err: err, wait: pause,
		again: !t.fresh || !errors.As(err, &limit), // which nothing but another start of etcd changes
	}
}

// hear notes that the source is asked now: what was news before is in the answer.
func (t *Term) hear() {
	t.source.news.Store(false)
	select {
	case <-t.asked:
	default:
	}
}

// pause waits after a fetch that failed. Whatever would make the source be asked at another time ends it: a Refetch at
// once, a change of membership when that has settled. Neither makes the source be asked while it wants to be left
// alone, or right after it has failed. What operators order meanwhile is carried out. False means that ctx ended first.
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
			t.obey(ctx) // where it fails, it is called again after the round
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

// tellFailed logs that a fetch failed, and when the next one follows, unless none does before the next poll. While
// Start waits for the first fetch, each failure makes a line.
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

// hangsForGood says whether a Fetch has taken so long that the office is not worth keeping for it, however long the
// budget is: as long again as its context gave it. Where the budget's end is to end the member, and there is one, that
// comes first.
func (t *Term) hangsForGood() bool {
	if t.o.ExitOnError && t.o.RetryBudget != Forever {
		return false
	}
	since, yes := t.source.calls.hangs()
	return yes && t.o.Now()-since >= 2*t.o.FetchTimeout
}

// exceeds says whether the budget that was begun at a moment is used up after a pause.
func (t *Term) exceeds(began, pause time.Duration) bool {
	return t.o.RetryBudget != Forever && began != Forever && t.o.Now()-began+pause > t.o.RetryBudget
}
