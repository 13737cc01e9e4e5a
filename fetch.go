package drm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// fetchPause is the pause after a failed attempt, the first of which is 0: 1, 2, 4, … s and no more than longest, less up
// to a quarter of it, as random, from 0 to 1, says.
func fetchPause(attempt int, longest time.Duration, random float64) time.Duration {
	pause := min(time.Second<<min(attempt, 16), longest)
	return pause - time.Duration(float64(pause)*0.25*random)
}

// leastPause is how long a source that has just failed is left alone, whoever wants it to be asked: news that come without
// end are no reason to ask it without end.
const leastPause = time.Second

// verdict is what a round of fetches came to.
type verdict struct {
	err   error // nil where a fetch has become the catalogue; of the source's, the text is known
	over  bool  // the term has ended, or is to
	lost  bool  // the source has failed for all of the budget; else it only is not worth asking before the next poll
	hangs bool  // a Fetch does not return: another member is to ask
}

// round fetches, and tries again, until a fetch has become the catalogue, or there is no more trying.
//
// An error of etcd is not the source's: it is tried again until the term ends, so that no member that can handle ends
// because of it. Only the first fetch of a fresh app takes the budget for it too, since a Start waits for that.
func (o *office) round(ctx context.Context) verdict {
	m := o.m
	longest := time.Minute
	if m.cfg.PollInterval > 0 {
		longest = min(longest, m.cfg.PollInterval) // a source that works again is not asked later than a poll would have
	}
	began := m.now()
	for attempt := 0; ; attempt++ {
		o.hear()
		err := o.fetch(ctx)
		if err == nil {
			o.failing = Forever
			return verdict{}
		}
		if ctx.Err() != nil || isEndOfTerm(err) {
			return verdict{err: err, over: true}
		}
		o.calm = m.now() + min(leastPause, longest)
		pause := fetchPause(attempt, longest, rand.Float64())
		wait, hangs := pause, false
		var again bool
		var message string
		if source, is := err.(*sourceError); is { //nolint:errorlint // nothing wraps it, and nothing looks through it
			err, hangs = source.err, source.hangs
			message = "the source cannot be had"
			m.source.tell(err)
			o.failing = min(o.failing, began)
			wait, again = max(pause, o.notBefore-m.now()), !source.advised || source.again
		} else {
			message = "etcd fails, and the source cannot become the catalogue"
			o.failing = Forever
			if !o.fresh {
				began = m.now() + wait
			}
			var limit *txn.LimitError
			again = !o.fresh || !errors.As(err, &limit) // which nothing but another start of etcd changes
		}
		over := hangs && o.hangsForGood() || !again || o.exceeds(began, wait)
		o.tellFailed(message, err, wait, over)
		if over {
			return verdict{err: err, lost: o.exceeds(o.failing, pause), hangs: hangs}
		}
		if !o.pause(ctx, wait) {
			return verdict{err: context.Cause(ctx), over: true}
		}
	}
}

// hear takes note that the source is asked now: what was news before is in the answer.
func (o *office) hear() {
	o.m.news.Store(false)
	select {
	case <-o.asked:
	default:
	}
}

// pause waits after a fetch that failed. Whatever would make the source be asked at another time ends it: a Refetch at once,
// a change of membership when it has settled. Neither makes the source be asked while it wants to be left alone, or right
// after it has failed. What operators order meanwhile is carried out. False means that ctx ended first.
func (o *office) pause(ctx context.Context, wait time.Duration) bool {
	until := o.m.now() + wait
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return true
		case <-o.changed:
			o.settleAnew()
			continue
		case <-o.vouch.C:
			o.writeVouch(ctx)
			continue
		case <-o.orders.news:
			o.obey(ctx) // if it fails, it is called again after the round
			continue
		case <-o.settle.C:
		case <-o.asked:
		}
		early := o.early()
		if early == 0 {
			return true
		}
		end.Reset(min(early, until-o.m.now()))
	}
}

// tellFailed logs that a fetch failed, and when the next one is, unless it is left at that for now. While Start waits for the
// first one, each makes a line.
func (o *office) tellFailed(message string, err error, wait time.Duration, over bool) {
	f := failures.Failure{Message: message, Level: zap.WarnLevel, Error: err.Error()}
	if !over {
		f.Fields = []zap.Field{zap.Duration("retry_in", wait.Round(time.Millisecond))}
	}
	if o.fresh {
		o.m.log.Warn(message, append(f.Fields, zap.String("error", f.Error))...)
	} else {
		o.m.failures.Add(f)
	}
}

// hangsForGood says whether a Fetch has taken so long that it is not worth waiting for it in office, however long the budget
// is: as long again as its context gave it. Where the budget's end is to end the member, and it has one, that comes first.
func (o *office) hangsForGood() bool {
	cfg := &o.m.cfg
	if cfg.SourcePolicy == ExitOnSourceError && cfg.FetchRetryBudget != Forever {
		return false
	}
	since, yes := o.m.source.hangs()
	return yes && o.m.now()-since >= 2*cfg.FetchTimeout
}

// exceeds says whether the budget that was begun at a moment is used up after a pause.
func (o *office) exceeds(began, pause time.Duration) bool {
	budget := o.m.cfg.FetchRetryBudget
	return budget != Forever && began != Forever && o.m.now()-began+pause > budget
}

// heed notes how long the source wants to be left alone, as the error of a fetch says, for this coordinator and the next:
// nothing asks it earlier.
func (o *office) heed(err error) {
	o.notBefore, o.record.NotBefore = 0, time.Time{}
	source, is := err.(*sourceError) //nolint:errorlint // nothing wraps it, and nothing looks through it
	if !is || source.after <= 0 {
		return
	}
	after := min(source.after, mostDuration)
	o.notBefore, o.record.NotBefore = o.m.now()+after, o.record.LastAttempt.Add(after)
}

// fetch asks the source once and makes its answer the catalogue. Its outcome is recorded.
func (o *office) fetch(ctx context.Context) error {
	m := o.m
	attempt := o.record.Attempt
	err := func() error {
		if err := m.source.free(); err != nil { // before the catalogue is read in vain
			if now, unknown := o.revision(ctx); unknown == nil {
				attempt = now
			}
			return err
		}
		if !o.vouched { // or who forgets the source could do so while the catalogue is read
			if err := o.writeRecord(ctx); err != nil {
				return err
			}
		}
		if err := o.sync.Load(ctx, m.hub); err != nil {
			return err
		}
		began, err := o.revision(ctx)
		if err != nil {
			return fmt.Errorf("ask etcd for its revision: %w", err)
		}
		attempt = began
		o.sync.Ask()
		out, err := o.apply(ctx, began)
		if err != nil {
			return err
		}
		o.tell(out)
		return nil
	}()
	if ctx.Err() != nil || errors.Is(err, catalogue.ErrDeposed) {
		return err
	}
	o.record.LastAttempt, o.record.Attempt = m.wall().UTC(), attempt
	o.record.Error = ""
	o.heed(err)
	if err != nil {
		o.record.Error = usercode.Clip(err.Error(), maxSourceError)
	} else {
		o.record.LastSuccess = o.record.LastAttempt
	}
	werr := o.writeRecord(ctx)
	if werr == nil {
		o.recorded = attempt
	}
	if err == nil || isEndOfTerm(werr) { // who is not in office any more blames nobody
		err = werr
	}
	return err
}

// apply asks the source and makes its answer the catalogue. Where the source says that nothing changed since an answer
// that did not become the catalogue in full, or that another member got, it is asked for everything.
func (o *office) apply(ctx context.Context, began int64) (catalogue.Outcome, error) {
	answer := o.m.source.ask(ctx, false)
	if answer.unchanged && !answer.everything {
		out, unchanged := o.sync.Unchanged(ctx, began)
		if !errors.Is(unchanged, catalogue.ErrNoAnswer) {
			return out, writing(unchanged)
		}
		answer = o.m.source.ask(ctx, true)
	}
	if answer.unchanged {
		return catalogue.Outcome{}, &sourceError{err: fmt.Errorf("asked for everything, it has answered: %w", ErrNotModified)}
	}
	if answer.failed != nil {
		return catalogue.Outcome{}, answer.failed
	}
	items, bad := toItems(answer.resources, answer.bad)
	if err := o.refuses(bad, len(items), answer.before); err != nil {
		o.sync.Refused()
		o.tellBad(bad, true)
		return catalogue.Outcome{}, &sourceError{err: err}
	}
	if o.fresh && len(items) >= manyItems {
		o.m.group.stepBack(o.sync.Vacant())
		defer o.m.group.stepBack(nil)
	}
	out, err := o.sync.Apply(ctx, catalogue.Answer{Items: items, Keep: bad.keep, KeepAll: bad.keepAll}, began)
	if err != nil {
		return out, writing(err)
	}
	o.m.source.taken()
	for _, id := range slices.Sorted(slices.Values(out.Rejected)) {
		bad.Add(BadItem{Index: -1, ID: id, Err: errTooLarge})
	}
	if o.tellBad(bad, false) {
		o.m.source.tell(badItems(answer.before, "", bad))
	}
	return out, nil
}

// manyItems is how many resources a fresh app's first answer has to have for the coordinator not to own the shards in which
// there is nothing yet while it writes them: to claim each as it comes, and to hear of it by a watch, would slow down the
// writing, and a list of all is cheaper than a million events.
const manyItems = 10_000

func writing(err error) error {
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	return nil
}

// revision is etcd's now.
func (o *office) revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	resp, err := o.m.kv.Get(ctx, o.m.layout.Config(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}
