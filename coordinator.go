package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// heldRetry bounds how long a removal that looks like a mistake waits for its second opinion.
const heldRetry = 10 * time.Second

// failedRetry is when a source that failed for all of the retry budget is asked again, where nothing polls it.
const failedRetry = time.Minute

// office is one term as coordinator: it fetches, and writes what changed. Its goroutine ends with leave.
type office struct {
	m      *Manager
	term   int64
	sync   *catalogue.Sync
	record sourceRecord
	fresh  bool // no fetch of the app has succeeded yet

	failing   time.Duration // since when every fetch has failed because of the source; Forever: the last one has not
	notBefore time.Duration // the source wants to be left alone until then

	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when the retriever has news
	cancel  context.CancelFunc
	done    chan struct{}
}

// enterOffice begins a term.
func (m *Manager) enterOffice(term int64) *office {
	ctx, cancel := context.WithCancel(m.ctx)
	o := &office{
		m: m, term: term, cancel: cancel, failing: Forever,
		sync:    m.store.NewSync(m.layout.Coordinator(), term),
		changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), done: make(chan struct{}),
	}
	m.log.Info("coordinating", zap.Int64("term", term))
	go func() {
		defer close(o.done)
		o.run(ctx)
	}()
	return o
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
	if !o.fresh {
		m.firstFetch(nil)
	} else if err := o.writeRecord(ctx); err != nil { // Deallocate needs to know that there is a source
		m.log.Warn("cannot record that there is a source", zap.Error(err))
	}
	poll := time.NewTimer(0)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.changed:
			if !m.cfg.CacheResources {
				settle.Reset(m.cfg.SettleDelay)
			}
			continue
		case <-settle.C:
		case <-o.asked:
		case <-poll.C:
		}
		if early := o.notBefore - m.now(); early > 0 {
			poll.Reset(early)
			continue
		}
		lost, err := o.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if isEndOfTerm(err) {
			m.log.Warn("the term has ended", zap.Error(err))
			<-ctx.Done() // the view will tell, and a start that waits for the first fetch hears of it there
			return
		}
		if o.fresh {
			m.firstFetch(err)
			o.fresh = false
		} else if lost && m.cfg.SourcePolicy == ExitOnSourceError {
			m.fail(fmt.Errorf("%w: %w", ErrSourceFailed, err))
			return
		}
		switch next := m.cfg.PollInterval; {
		case o.record.Held > 0 && err == nil:
			if next == 0 || next > heldRetry {
				next = heldRetry
			}
			poll.Reset(next)
		case next > 0:
			poll.Reset(next)
		case err != nil:
			poll.Reset(failedRetry)
		}
	}
}

// isEndOfTerm says whether an error means that this member is not the coordinator any more, or not of this app.
func isEndOfTerm(err error) bool {
	return errors.Is(err, catalogue.ErrDeposed) || errors.Is(err, catalogue.ErrAppGone)
}
