package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// failedRetry is when a source that failed for all of the retry budget is asked again, where nothing polls it.
const failedRetry = time.Minute

// office is one term as coordinator: it fetches, and writes what changed. Its goroutine ends with leave.
type office struct {
	m         *Manager
	term      int64
	inherited bool // the group had a coordinator before, as this member has seen
	sync      *catalogue.Sync
	record    record.Source
	badSeen   badSet // the bad items of the last answer
	fresh     bool   // no fetch of the app has succeeded yet

	failing   time.Duration // since when every fetch has failed because of the source; Forever: the last one has not
	notBefore time.Duration // the source wants to be left alone until then
	calm      time.Duration // until then nobody asks again after a fetch that failed

	vouched bool // the record says that this term's coordinator has a source

	orders     *orders // what operators order
	askedFor   int64   // the last order to accept removals for which the source was to be asked first
	recorded   int64   // the revision at which the last attempt began whose outcome is in etcd
	unrecorded bool    // what came of an order to accept removals is not in etcd yet
	accepted   int     // what was removed of such an order that could not be carried out as a whole yet
	toldHeld   string  // the digest of the held removals that the log tells of

	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when the retriever has news, or somebody else wants a fetch now
	settle  *time.Timer   // until the membership has settled; run's goroutine owns it
	vouch   *time.Ticker  // for the record that there is a source; run's goroutine owns it
	cancel  context.CancelFunc
	done    chan struct{}
}

// newOffice makes the office of a term, which enter begins.
func (m *Manager) newOffice(term int64, inherited bool) *office {
	o := &office{
		m: m, term: term, inherited: inherited, failing: Forever,
		sync:    m.store.NewSync(m.layout.Coordinator(), term, m.removalRules()),
		changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), done: make(chan struct{}),
	}
	o.orders = newOrders(m.layout, m.app.CreateRevision, o.refetch)
	return o
}

// enter begins the term.
func (o *office) enter() {
	o.m.log.Info("coordinating", zap.Int64("term", o.term))
	ctx, cancel := context.WithCancel(o.m.ctx)
	o.cancel = cancel
	go func() {
		defer close(o.done)
		o.run(ctx)
	}()
}

// leave ends the term and waits for its end. A Fetch that does not heed its context is left behind.
func (o *office) leave() {
	o.cancel()
	<-o.done
}

// membersChanged lets the source be asked again once the membership has settled.
func (o *office) membersChanged() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// refetch lets the source be asked again now, or as soon as it may be after a failure. It ends a pause between two attempts.
func (o *office) refetch() {
	select {
	case o.asked <- struct{}{}:
	default:
	}
}

func (o *office) run(ctx context.Context) {
	m := o.m
	if m.cfg.Retriever == nil {
		o.runAlone(ctx)
		return
	}
	o.fresh = o.readRecord(ctx)
	o.recorded = o.record.Attempt
	if !o.fresh {
		m.firstFetch(nil)
	}
	o.writeVouch(ctx)
	o.inherit()
	following, endFollowing := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		m.hub.Follow(following, m.layout.Orders(), o.orders)
	}()
	defer func() { endFollowing(); <-followed }()
	poll := o.firstTimers()
	o.vouch = time.NewTicker(vouchEvery(m.cfg.SourceGone))
	defer poll.Stop()
	defer o.settle.Stop()
	defer o.vouch.Stop()
	again := time.NewTimer(time.Hour)
	again.Stop()
	defer again.Stop()
	failures := 0
	obey := func() {
		if o.obey(ctx) {
			failures = 0
			return
		}
		again.Reset(retryPause(failures))
		failures++
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.changed:
			o.settleAnew()
			continue
		case <-o.orders.news:
			obey()
			continue
		case <-again.C:
			obey()
			continue
		case <-o.vouch.C:
			o.writeVouch(ctx)
			continue
		case <-o.settle.C:
		case <-o.asked:
		case <-poll.C:
		}
		if early := o.early(); early > 0 {
			if o.fresh && o.exceeds(m.now(), early) { // an earlier coordinator was told so, and its Start has failed too
				m.firstFetch(o.leftAlone(early))
				o.fresh = false
			}
			poll.Reset(early)
			continue
		}
		v := o.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case v.over:
			m.log.Warn("the term has ended", zap.Error(v.err))
			<-ctx.Done() // the view will tell, and a start that waits for the first fetch hears of it there
			return
		case o.fresh:
			m.firstFetch(v.err)
			o.fresh = false
		case v.lost && m.cfg.SourcePolicy == ExitOnSourceError:
			m.fail(fmt.Errorf("%w: %w", ErrSourceFailed, v.err))
			return
		}
		if v.hangs {
			m.log.Error("a Fetch does not return, though its context has ended; resigning, so that another member asks the source")
			m.group.resign(o.term)
			<-ctx.Done()
			return
		}
		obey() // what waited for an answer
		switch next := m.cfg.PollInterval; {
		case next > 0: // which is when removals are confirmed, too: their delay is as long at least
			poll.Reset(next)
		case v.err != nil:
			poll.Reset(failedRetry)
		case !o.record.HeldRemovals.Until.IsZero():
			poll.Reset(max(o.sync.Held().Due-m.now(), 0))
		}
	}
}

// firstTimers are when the source is asked for the first time: at once, or when the membership has settled. That the
// coordinator is another one now is a change of membership like others: where the last fetch went well, it makes the
// source be asked once more, after it has settled, or not at all. Where there was no coordinator before, the group begins,
// and asks.
func (o *office) firstTimers() (poll *time.Timer) {
	cfg := &o.m.cfg
	poll, o.settle = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	poll.Stop()
	o.settle.Stop()
	switch {
	case o.fresh || !o.inherited || o.record.Error != "" || o.record.Held > 0: // what is held is not known before an answer
		poll.Reset(0)
	case !cfg.CacheResources:
		o.settle.Reset(cfg.SettleDelay)
		if cfg.PollInterval > 0 { // members that come and go without end delay it no longer
			poll.Reset(cfg.SettleDelay + cfg.PollInterval)
		}
	case o.m.news.Load(): // which the one before may not have had
		poll.Reset(0)
	case cfg.PollInterval > 0:
		due := o.record.LastSuccess.Add(cfg.PollInterval).Sub(o.m.wall())
		poll.Reset(min(max(due, 0), cfg.PollInterval)) // clocks differ
	}
	return poll
}

// settleAnew makes the source be asked when the membership has settled, which just changed.
func (o *office) settleAnew() {
	if !o.m.cfg.CacheResources {
		o.settle.Reset(o.m.cfg.SettleDelay)
	}
}

// early is how long nothing asks the source yet: it wants to be left alone, or has failed just now. 0: it may be asked.
func (o *office) early() time.Duration { return max(0, max(o.notBefore, o.calm)-o.m.now()) }

// leftAlone is the error of a fetch that is not made, since the source wants to be left alone for longer than anybody waits.
func (o *office) leftAlone(early time.Duration) error {
	err := fmt.Errorf("the source wants to be left alone for another %v", early.Round(time.Second))
	if o.record.Error != "" {
		err = fmt.Errorf("%w, since its answer to the last coordinator: %s", err, o.record.Error)
	}
	return err
}

// isEndOfTerm says whether an error means that this member is not the coordinator any more, or not of this app. It looks
// through no error of the source: those of that kind end there.
func isEndOfTerm(err error) bool {
	return errors.Is(err, catalogue.ErrDeposed) || errors.Is(err, catalogue.ErrAppGone)
}
