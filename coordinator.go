package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// failedRetry is when a source that failed for all of the retry budget is asked again, where nothing polls it.
const failedRetry = time.Minute

// office is one term as coordinator: it fetches, and writes what changed. Its goroutine ends with leave.
type office struct {
	m         *Manager
	term      int64
	inherited bool // the group had a coordinator before, as this member has seen
	sync      *catalogue.Sync
	record    sourceRecord
	badSeen   badSet // the bad items of the last answer
	fresh     bool   // no fetch of the app has succeeded yet

	failing   time.Duration // since when every fetch has failed because of the source; Forever: the last one has not
	notBefore time.Duration // the source wants to be left alone until then

	orders     *orders // what operators order
	askedFor   int64   // the last order to accept removals for which the source was to be asked first
	recorded   int64   // the revision at which the last attempt began whose outcome is in etcd
	unrecorded bool    // what came of an order to accept removals is not in etcd yet
	accepted   int     // what was removed of such an order that could not be carried out as a whole yet
	toldHeld   string  // the digest of the held removals that the log tells of

	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when the retriever has news
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

// refetch lets the source be asked again now.
func (o *office) refetch() {
	select {
	case o.asked <- struct{}{}:
	default:
	}
}

func (o *office) run(ctx context.Context) {
	m := o.m
	if m.cfg.Retriever == nil {
		<-ctx.Done()
		return
	}
	o.fresh = o.readRecord(ctx)
	o.recorded = o.record.Attempt
	if !o.fresh {
		m.firstFetch(nil)
	} else if err := o.writeRecord(ctx); err != nil { // Deallocate needs to know that there is a source
		m.log.Warn("cannot record that there is a source", zap.Error(err))
	}
	o.inherit()
	following, endFollowing := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		m.hub.Follow(following, m.layout.Orders(), o.orders)
	}()
	defer func() { endFollowing(); <-followed }()
	poll, settle := o.firstTimers()
	defer poll.Stop()
	defer settle.Stop()
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
			if !m.cfg.CacheResources {
				settle.Reset(m.cfg.SettleDelay)
			}
			continue
		case <-o.orders.news:
			obey()
			continue
		case <-again.C:
			obey()
			continue
		case <-settle.C:
		case <-o.asked:
		case <-poll.C:
		}
		if early := o.notBefore - m.now(); early > 0 {
			poll.Reset(early)
			continue
		}
		m.news.Store(false) // what was news before is in the answer
		select {
		case <-o.asked:
		default:
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
		case o.record.Held > 0 && m.cfg.RemovalPolicy == ConfirmRemovals:
			poll.Reset(max(o.sync.Held().Due-m.now(), 0))
		}
	}
}

// firstTimers are when the source is asked for the first time: at once, or when the membership has settled. That the
// coordinator is another one now is a change of membership like others: where the last fetch went well, it makes the
// source be asked once more, after it has settled, or not at all. Where there was no coordinator before, the group begins,
// and asks.
func (o *office) firstTimers() (poll, settle *time.Timer) {
	cfg := &o.m.cfg
	poll, settle = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	poll.Stop()
	settle.Stop()
	switch {
	case o.fresh || !o.inherited || o.record.Error != "" || o.record.Held > 0: // what is held is not known before an answer
		poll.Reset(0)
	case !cfg.CacheResources:
		settle.Reset(cfg.SettleDelay)
		if cfg.PollInterval > 0 { // members that come and go without end delay it no longer
			poll.Reset(cfg.SettleDelay + cfg.PollInterval)
		}
	case o.m.news.Load(): // which the one before may not have had
		poll.Reset(0)
	case cfg.PollInterval > 0:
		due := o.record.LastSuccess.Add(cfg.PollInterval).Sub(o.m.wall())
		poll.Reset(min(max(due, 0), cfg.PollInterval)) // clocks differ
	}
	return poll, settle
}

// isEndOfTerm says whether an error means that this member is not the coordinator any more, or not of this app. It looks
// through no error of the source: those of that kind end there.
func isEndOfTerm(err error) bool {
	return errors.Is(err, catalogue.ErrDeposed) || errors.Is(err, catalogue.ErrAppGone)
}
