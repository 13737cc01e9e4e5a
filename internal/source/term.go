package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// failedRetry is the time after which a source that failed for all of the retry budget is asked again, if nothing polls
// it.
const failedRetry = time.Minute

// Term is one term of the member as coordinator.
//
// Source.Term makes it; Enter starts its goroutine, which does all of its work; Leave ends it, and waits for that
// goroutine. Any goroutine may call MembersChanged between the two.
type Term struct {
	o         *Options
	source    *Source
	number    int64 // the create revision of the coordinator's key
	inherited bool  // this member knows of an earlier coordinator that had a source
	sync      *catalogue.Sync
	record    record.Source // what the term writes to etcd next
	bad       badSet        // the bad items of the last answer
	fresh     bool          // no fetch of the app has succeeded yet

	failing   time.Duration // since when every fetch has failed because of the source; Forever: the last one has not
	notBefore time.Duration // until then the source wants to be left alone
	calm      time.Duration // until then nobody asks the source, because it has just failed

	vouched bool // the record in etcd says that this term's coordinator has a source

	orders     *orders      // orders of operators
	obeying    *pace.Pauses // the pauses before orders are tried again after etcd failed
	askedFor   int64        // the last order to accept removals for which the source had to be asked first
	recorded   int64        // the revision at which the last attempt began whose outcome is in etcd
	unrecorded bool         // the outcome of an order to accept removals is not in etcd yet
	accepted   int          // removals already made for an order that etcd kept from being carried out as a whole
	toldHeld   string       // the digest of the held removals that were logged last

	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when the source must be asked now
	timers  timers        // the term's goroutine owns them
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended
}

// timers are the timers of a term.
type timers struct {
	poll   *time.Timer  // asks the source
	settle *time.Timer  // asks the source, since the membership has settled
	obey   *time.Timer  // tries orders again that failed because of etcd
	vouch  *time.Ticker // records that there is a source
}

func newTimers(vouchEvery time.Duration) timers {
	return timers{poll: pace.Stopped(), settle: pace.Stopped(), obey: pace.Stopped(), vouch: time.NewTicker(vouchEvery)}
}

func (ts *timers) stop() {
	ts.poll.Stop()
	ts.settle.Stop()
	ts.obey.Stop()
	ts.vouch.Stop()
}

// Term makes the term whose number is the create revision of the coordinator's key. inherited says that this member
// knows of an earlier coordinator that had a source. The previous term must have been left.
func (s *Source) Term(number int64, inherited bool) *Term {
	t := &Term{
		o: &s.o, source: s, number: number, inherited: inherited, failing: Forever, obeying: pace.Retry(),
		sync:    s.o.Store.NewSync(s.o.Layout.Coordinator(), number, s.o.Removals),
		changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), done: make(chan struct{}),
	}
	t.orders = newOrders(s.o.Layout, s.o.Created, t.refetch)
	return t
}

// Enter begins the term, which ends with Leave, or when ctx ends. It is called once.
func (t *Term) Enter(ctx context.Context) {
	t.o.Log.Info("coordinating", zap.Int64("term", t.number))
	ctx, t.cancel = context.WithCancel(ctx)
	t.source.term.Store(t) // before run starts, so that no Refetch is lost
	go func() {
		defer close(t.done)
		t.run(ctx)
	}()
}

// Leave ends the term, and waits for its goroutine. It leaves behind a Fetch that ignores its context.
func (t *Term) Leave() {
	t.source.term.CompareAndSwap(t, nil)
	t.cancel()
	<-t.done
}

// MembersChanged makes the term ask the source again once the membership has settled.
func (t *Term) MembersChanged() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// refetch makes the term ask the source now, or as soon as it may after a failure. It ends a pause between two
// attempts.
func (t *Term) refetch() {
	select {
	case t.asked <- struct{}{}:
	default:
	}
}

func (t *Term) run(ctx context.Context) {
	if t.o.Retriever == nil {
		t.runAlone(ctx)
		return
	}
	t.takeOver(ctx)
	following, endFollowing := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		t.o.Hub.Follow(following, t.o.Layout.Orders(), t.orders)
	}()
	defer func() { endFollowing(); <-followed }()
	t.timers = newTimers(vouchEvery(t.o.Gone))
	defer t.timers.stop()
	t.firstTimers()
	for t.await(ctx) {
		v := t.round(ctx)
		if !t.conclude(ctx, v) {
			return
		}
		t.obeyOrRetry(ctx) // there may be orders that have waited for an answer
		t.nextPoll(v)
	}
}

// takeOver reads the record of the previous coordinator, and records that there is a source.
func (t *Term) takeOver(ctx context.Context) {
	var read bool
	if t.fresh, read = t.readRecord(ctx); !read {
		return // the term has ended, and knows nothing of the source: a start goes on waiting for the next one
	}
	t.recorded = t.record.Attempt
	if !t.fresh {
		t.o.FirstFetch(nil)
	}
	t.writeVouch(ctx)
	t.inherit()
}

// await waits until the source must be asked, and meanwhile does what needs no answer of the source. It returns false
// if ctx ended.
func (t *Term) await(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.changed:
			t.settleAnew()
			continue
		case <-t.orders.news:
			t.obeyOrRetry(ctx)
			continue
		case <-t.timers.obey.C:
			t.obeyOrRetry(ctx)
			continue
		case <-t.timers.vouch.C:
			t.writeVouch(ctx)
			continue
		case <-t.timers.settle.C:
		case <-t.asked:
		case <-t.timers.poll.C:
		}
		early := t.early()
		if early == 0 {
			return true
		}
		if t.fresh && t.exceeds(t.o.Now(), early) { // no Start waits that long; that of the last coordinator failed too
			t.o.FirstFetch(t.leftAlone(early))
			t.fresh = false
		}
		t.timers.poll.Reset(early)
	}
}

// conclude acts on the result of a round of fetches. It returns false if the term is over.
func (t *Term) conclude(ctx context.Context, v verdict) (goesOn bool) {
	switch {
	case ctx.Err() != nil:
		return false
	case v.over:
		t.o.Log.Warn("the term has ended", zap.Error(v.err))
		<-ctx.Done() // the next view ends the term, and the wait of a start for the first fetch
		return false
	case t.fresh:
		t.o.FirstFetch(v.err)
		t.fresh = false
	case v.lost && t.o.ExitOnError:
		t.o.Fail(fmt.Errorf("%w: %w", ErrFailed, v.err))
		return false
	}
	if v.hangs {
		t.o.Log.Error("a Fetch does not return, though its context has ended; " +
			"resigning, so that another member asks the source")
		t.o.Resign(t.number)
		<-ctx.Done()
		return false
	}
	return true
}

// nextPoll sets when the source is asked after a round, unless something asks it earlier.
func (t *Term) nextPoll(v verdict) {
	switch next := t.o.PollInterval; {
	case next > 0: // a poll also confirms held removals, whose delay is at least PollInterval
		t.timers.poll.Reset(next)
	case v.err != nil:
		t.timers.poll.Reset(failedRetry)
	case !t.record.HeldRemovals.Until.IsZero():
		t.timers.poll.Reset(max(t.sync.Held().Due-t.o.Now(), 0))
	}
}

// obeyOrRetry carries out the orders. If etcd fails, it sets when to try again.
func (t *Term) obeyOrRetry(ctx context.Context) {
	if t.obey(ctx) {
		t.obeying.Reset()
		return
	}
	t.timers.obey.Reset(t.obeying.Next())
}

// firstTimers sets when the source is asked for the first time. That is at once in a group that begins, where nobody
// coordinated before, and if the last fetch failed or held removals, because only an answer tells which ids are held.
// Otherwise a new coordinator is a change of membership like others: it asks the source when the membership has
// settled, or not at all (CacheResources).
func (t *Term) firstTimers() {
	switch {
	case t.fresh || !t.inherited || t.record.Error != "" || t.record.Held > 0:
		t.timers.poll.Reset(0)
	case !t.o.CacheResources:
		t.timers.settle.Reset(t.o.SettleDelay)
		if t.o.PollInterval > 0 { // members that come and go without end do not delay it for longer
			t.timers.poll.Reset(t.o.SettleDelay + t.o.PollInterval)
		}
	case t.source.news.Load(): // the previous coordinator may not have had this Refetch
		t.timers.poll.Reset(0)
	case t.o.PollInterval > 0:
		due := t.record.LastSuccess.Add(t.o.PollInterval).Sub(t.o.Wall())
		t.timers.poll.Reset(min(max(due, 0), t.o.PollInterval)) // the previous coordinator's clock may be wrong
	}
}

// settleAnew makes the term ask the source when the membership, which has just changed, has settled.
func (t *Term) settleAnew() {
	if !t.o.CacheResources {
		t.timers.settle.Reset(t.o.SettleDelay)
	}
}

// early returns how long the source must not be asked yet, because it wants to be left alone, or has just failed.
func (t *Term) early() time.Duration { return max(0, max(t.notBefore, t.calm)-t.o.Now()) }

// leftAlone returns the error of a fetch that is not made, because the source wants to be left alone for longer than
// the retry budget.
func (t *Term) leftAlone(early time.Duration) error {
	err := fmt.Errorf("the source wants to be left alone for another %v", early.Round(time.Second))
	if t.record.Error != "" {
		err = fmt.Errorf("%w, since its answer to the last coordinator: %s", err, t.record.Error)
	}
	return err
}

// isEndOfTerm says whether an error means that this member is no longer the coordinator, or that the app is gone. It
// calls no method of the user's errors, since a sourceError does not unwrap.
func isEndOfTerm(err error) bool {
	return errors.Is(err, catalogue.ErrDeposed) || errors.Is(err, catalogue.ErrAppGone)
}
