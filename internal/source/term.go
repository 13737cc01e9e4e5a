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

// failedRetry is when a source that failed for all of the retry budget is asked again, where nothing polls it.
const failedRetry = time.Minute

// Term is one term of the member as coordinator.
//
// Source.Term makes it; Enter begins it, and starts its goroutine, which does all of its work; Leave ends it, and waits
// for that goroutine. MembersChanged may be called by any goroutine between the two.
type Term struct {
	o         *Options
	source    *Source
	number    int64 // the create revision of the coordinator's key
	inherited bool  // the group had a coordinator before, as this member has seen
	sync      *catalogue.Sync
	record    record.Source
	bad       badSet // the bad items of the last answer
	fresh     bool   // no fetch of the app has succeeded yet

	failing   time.Duration // since when every fetch has failed because of the source; Forever: the last one has not
	notBefore time.Duration // the source wants to be left alone until then
	calm      time.Duration // nobody asks the source before that: it has failed just now

	vouched bool // the record says that this term's coordinator has a source

	orders     *orders      // what operators order
	obeying    *pace.Pauses // before orders are carried out again, where etcd failed
	askedFor   int64        // the last order to accept removals for which the source was to be asked first
	recorded   int64        // the revision at which the last attempt began whose outcome is in etcd
	unrecorded bool         // what came of an order to accept removals is not in etcd yet
	accepted   int          // how many were removed for such an order that could not be carried out as a whole yet
	toldHeld   string       // the digest of the held removals that the log tells of

	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when somebody wants a fetch now
	timers  timers        // the term's goroutine owns them
	cancel  context.CancelFunc
	done    chan struct{}
}

// timers are what makes a term do something at its time.
type timers struct {
	poll   *time.Timer  // the source is to be asked
	settle *time.Timer  // the membership has settled, and the source is to be asked
	obey   *time.Timer  // orders that etcd kept from being carried out are to be tried again
	vouch  *time.Ticker // it is to be recorded that there is a source
}

func newTimers(vouchEvery time.Duration) timers {
	return timers{poll: stopped(), settle: stopped(), obey: stopped(), vouch: time.NewTicker(vouchEvery)}
}

// stopped makes a timer that does not run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (ts *timers) stop() {
	ts.poll.Stop()
	ts.settle.Stop()
	ts.obey.Stop()
	ts.vouch.Stop()
}

// Term makes the term that begins with a create revision of the coordinator's key. inherited says that the group had a
// coordinator with a source before. The term before must have been left.
func (s *Source) Term(number int64, inherited bool) *Term {
	t := &Term{
		o: &s.o, source: s, number: number, inherited: inherited, failing: Forever, obeying: pace.Retry(),
		sync:    s.o.Store.NewSync(s.o.Layout.Coordinator(), number, s.o.Removals),
		changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), done: make(chan struct{}),
	}
	t.orders = newOrders(s.o.Layout, s.o.Created, t.refetch)
	return t
}

// Enter begins the term, which also ends with ctx. It is called once.
func (t *Term) Enter(ctx context.Context) {
	t.o.Log.Info("coordinating", zap.Int64("term", t.number))
	ctx, t.cancel = context.WithCancel(ctx)
	t.source.term.Store(t) // before it begins, so that no Refetch is lost
	go func() {
		defer close(t.done)
		t.run(ctx)
	}()
}

// Leave ends the term, and waits for its end. A Fetch that does not heed its context is left behind.
func (t *Term) Leave() {
	t.source.term.CompareAndSwap(t, nil)
	t.cancel()
	<-t.done
}

// MembersChanged makes the source be asked again once the membership has settled.
func (t *Term) MembersChanged() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// refetch makes the source be asked again now, or as soon as it may be after a failure. It ends a pause between two
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
		t.obeyOrRetry(ctx) // what waited for an answer
		t.nextPoll(v)
	}
}

// takeOver reads what the coordinator before has recorded, and records that there is a source.
func (t *Term) takeOver(ctx context.Context) {
	t.fresh = t.readRecord(ctx)
	t.recorded = t.record.Attempt
	if !t.fresh {
		t.o.FirstFetch(nil)
	}
	t.writeVouch(ctx)
	t.inherit()
}

// await waits until something makes the source be asked, and does meanwhile what does not need its answer. False says
// that ctx ended.
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
		if t.fresh && t.exceeds(t.o.Now(), early) { // an earlier coordinator was told so, and its Start has failed too
			t.o.FirstFetch(t.leftAlone(early))
			t.fresh = false
		}
		t.timers.poll.Reset(early)
	}
}

// conclude acts on what a round of fetches came to. False says that the term is over.
func (t *Term) conclude(ctx context.Context, v verdict) (goesOn bool) {
	switch {
	case ctx.Err() != nil:
		return false
	case v.over:
		t.o.Log.Warn("the term has ended", zap.Error(v.err))
		<-ctx.Done() // the view will tell, and a start that waits for the first fetch hears of it there
		return false
	case t.fresh:
		t.o.FirstFetch(v.err)
		t.fresh = false
	case v.lost && t.o.ExitOnError:
		t.o.Fail(fmt.Errorf("%w: %w", ErrFailed, v.err))
		return false
	}
	if v.hangs {
		t.o.Log.Error("a Fetch does not return, though its context has ended; resigning, " +
			"so that another member asks the source")
		t.o.Resign(t.number)
		<-ctx.Done()
		return false
	}
	return true
}

// nextPoll sets when the source is asked after a round, if nothing else makes it be asked.
func (t *Term) nextPoll(v verdict) {
	switch next := t.o.PollInterval; {
	case next > 0: // which is when removals are confirmed, too: their delay is as long at least
		t.timers.poll.Reset(next)
	case v.err != nil:
		t.timers.poll.Reset(failedRetry)
	case !t.record.HeldRemovals.Until.IsZero():
		t.timers.poll.Reset(max(t.sync.Held().Due-t.o.Now(), 0))
	}
}

// obeyOrRetry carries out the orders that stand, and sets when to try again where etcd fails.
func (t *Term) obeyOrRetry(ctx context.Context) {
	if t.obey(ctx) {
		t.obeying.Reset()
		return
	}
	t.timers.obey.Reset(t.obeying.Next())
}

// firstTimers sets when the source is asked for the first time: at once, or when the membership has settled. A new
// coordinator is a change of membership like others: where the last fetch went well, it makes the source be asked once
// more, after the membership has settled, or not at all. Where there was no coordinator before, the group begins, and
// asks.
func (t *Term) firstTimers() {
	switch {
	case t.fresh || !t.inherited || t.record.Error != "" || t.record.Held > 0: // which ids are held, only an answer tells
		t.timers.poll.Reset(0)
	case !t.o.CacheResources:
		t.timers.settle.Reset(t.o.SettleDelay)
		if t.o.PollInterval > 0 { // members that come and go without end delay it no longer
			t.timers.poll.Reset(t.o.SettleDelay + t.o.PollInterval)
		}
	case t.source.news.Load(): // which the coordinator before may not have had
		t.timers.poll.Reset(0)
	case t.o.PollInterval > 0:
		due := t.record.LastSuccess.Add(t.o.PollInterval).Sub(t.o.Wall())
		t.timers.poll.Reset(min(max(due, 0), t.o.PollInterval)) // clocks differ
	}
}

// settleAnew makes the source be asked when the membership, which just changed, has settled.
func (t *Term) settleAnew() {
	if !t.o.CacheResources {
		t.timers.settle.Reset(t.o.SettleDelay)
	}
}

// early is how long nothing asks the source yet: it wants to be left alone, or has failed just now. 0: it may be asked.
func (t *Term) early() time.Duration { return max(0, max(t.notBefore, t.calm)-t.o.Now()) }

// leftAlone returns the error of a fetch that is not made, since the source wants to be left alone for longer than
// anybody waits.
func (t *Term) leftAlone(early time.Duration) error {
	err := fmt.Errorf("the source wants to be left alone for another %v", early.Round(time.Second))
	if t.record.Error != "" {
		err = fmt.Errorf("%w, since its answer to the last coordinator: %s", err, t.record.Error)
	}
	return err
}

// isEndOfTerm says whether an error means that this member is not the coordinator any more, or not of this app. It
// looks through no error of the source: a sourceError does not unwrap.
func isEndOfTerm(err error) bool {
	return errors.Is(err, catalogue.ErrDeposed) || errors.Is(err, catalogue.ErrAppGone)
}
