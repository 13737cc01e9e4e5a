package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// heldRetry bounds how long a removal that looks like a mistake waits for its second opinion.
const heldRetry = 10 * time.Second

// failedRetry is when a source that failed for all of the retry budget is asked again, where nothing polls it.
const failedRetry = time.Minute

// The most of a fetch's outcome that is recorded: the record must fit into a request to etcd, whatever the source says.
const (
	maxRejected    = 100
	maxSourceError = 4096
)

// sourceRecord is the value of the source key.
type sourceRecord struct {
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	Resources   int       `json:"resources"`
	Added       int       `json:"added"`
	Changed     int       `json:"changed"`
	Removed     int       `json:"removed"`
	Held        int       `json:"held"`               // removals that wait for a second opinion
	TooLarge    int       `json:"too_large"`          // resources that etcd did not take
	Rejected    []string  `json:"rejected,omitempty"` // the first of them
	Error       string    `json:"error"`
}

// office is one term as coordinator: it fetches, and writes what changed. Its goroutine ends with leave.
type office struct {
	m       *Manager
	term    int64
	sync    *catalogue.Sync
	record  sourceRecord
	fresh   bool          // no fetch of the app has succeeded yet
	changed chan struct{} // holds a token when the membership changed
	asked   chan struct{} // holds a token when the retriever has news
	cancel  context.CancelFunc
	done    chan struct{}
}

// enterOffice begins a term.
func (m *Manager) enterOffice(term int64) *office {
	ctx, cancel := context.WithCancel(m.ctx)
	o := &office{
		m: m, term: term, cancel: cancel,
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
		err := o.round(ctx)
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
		} else if err != nil && m.cfg.SourcePolicy == ExitOnSourceError {
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

// readRecord takes over the outcome of earlier terms, and reports whether no fetch of the app has ever succeeded.
func (o *office) readRecord(ctx context.Context) (fresh bool) {
	for failures := 0; ; failures++ {
		asking, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
		resp, err := o.m.kv.Get(asking, o.m.layout.Source())
		cancel()
		if err == nil {
			if len(resp.Kvs) > 0 {
				if o.record, err = decodeSource(resp.Kvs[0].Value); err != nil {
					o.m.log.Warn("the record of the last fetches is corrupt; it is written anew", zap.Error(err))
				}
			}
			return o.record.LastSuccess.IsZero()
		}
		if !pauseFor(ctx, retryPause(failures)) {
			return false
		}
	}
}

// round fetches, and tries again within the budget, until a fetch has become the catalogue.
func (o *office) round(ctx context.Context) error {
	m := o.m
	started := m.now()
	longest := time.Minute
	if m.cfg.PollInterval > 0 {
		longest = min(longest, m.cfg.PollInterval) // a source that works again is not asked later than a poll would have
	}
	for pause := min(time.Second, longest); ; pause = min(2*pause, longest) {
		err := o.fetch(ctx)
		if err == nil || ctx.Err() != nil || isEndOfTerm(err) {
			return err
		}
		m.log.Warn("the source cannot be had", zap.Error(err))
		if m.cfg.OnSourceError != nil {
			if p := safely(func() error { m.cfg.OnSourceError(err); return nil }); p != nil {
				m.log.Error("OnSourceError panicked", zap.Error(p))
			}
		}
		wait := pause - time.Duration(float64(pause)*0.25*rand.Float64())
		if m.cfg.FetchRetryBudget != Forever && m.now()-started+wait > m.cfg.FetchRetryBudget {
			return err
		}
		if !pauseFor(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// fetch asks the source once and makes its answer the catalogue. Its outcome is recorded.
func (o *office) fetch(ctx context.Context) error {
	m := o.m
	err := func() error {
		if err := o.sync.Load(ctx, m.hub); err != nil {
			return err
		}
		began, err := o.revision(ctx)
		if err != nil {
			return fmt.Errorf("ask etcd for its revision: %w", err)
		}
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
	o.record.LastAttempt = m.wall().UTC()
	o.record.Error = ""
	if err != nil {
		o.record.Error = clip(err.Error(), maxSourceError)
	} else {
		o.record.LastSuccess = o.record.LastAttempt
	}
	if werr := o.writeRecord(ctx); err == nil {
		err = werr
	}
	return err
}

// apply asks the source and makes its answer the catalogue. Where the source says that nothing changed since an answer
// that did not become the catalogue, or that another member got, it is asked for everything.
func (o *office) apply(ctx context.Context, began int64) (catalogue.Outcome, error) {
	resources, err := o.ask(ctx)
	if errors.Is(err, ErrNotModified) {
		out, err := o.sync.Unchanged(ctx, began)
		if !errors.Is(err, catalogue.ErrNoAnswer) {
			return out, writing(err)
		}
		o.forget()
		if resources, err = o.ask(ctx); err != nil {
			return catalogue.Outcome{}, err
		}
	} else if err != nil {
		return catalogue.Outcome{}, err
	}
	items, err := toItems(resources)
	if err != nil {
		return catalogue.Outcome{}, err
	}
	if o.fresh && len(items) >= manyItems {
		o.m.group.stepBack(true)
		defer o.m.group.stepBack(false)
	}
	out, err := o.sync.Apply(ctx, items, began)
	return out, writing(err)
}

// manyItems is how many resources a fresh app's first answer has to have for the coordinator to own nothing while it
// writes them: to claim each as it comes, and to hear of it by a watch, would slow down the writing, and a list of all is
// cheaper than a million events.
const manyItems = 10_000

func writing(err error) error {
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	return nil
}

// forget makes the next Fetch return everything, where the Retriever can leave out what it returned before.
func (o *office) forget() {
	if f, ok := o.m.cfg.Retriever.(Forgetter); ok {
		if p := safely(func() error { f.Forget(); return nil }); p != nil {
			o.m.log.Error("Forget panicked", zap.Error(p))
		}
	}
}

// ask calls Fetch, with its timeout, and does not wait for one that ignores its context.
func (o *office) ask(ctx context.Context) ([]Resource, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.m.cfg.FetchTimeout, fmt.Errorf("the source did not answer within %v", o.m.cfg.FetchTimeout))
	defer cancel()
	type answer struct {
		resources []Resource
		err       error
	}
	answers := make(chan answer, 1)
	if !o.m.fetching.TryLock() {
		return nil, errors.New("an earlier Fetch has still not returned")
	}
	o.m.calls.Add(1)
	go func() {
		defer o.m.calls.Done()
		defer o.m.fetching.Unlock()
		var a answer
		a.err = safely(func() (err error) { a.resources, err = o.m.cfg.Retriever.Fetch(ctx); return err })
		answers <- a
	}()
	select {
	case a := <-answers:
		if a.err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("fetch: %w", context.Cause(ctx))
		}
		return a.resources, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch: %w", context.Cause(ctx))
	}
}

// toItems checks what a Retriever returned.
func toItems(resources []Resource) ([]catalogue.Item, error) {
	items := make([]catalogue.Item, len(resources))
	seen := make(map[string]int, len(resources))
	for i, r := range resources {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("item %d of the source: %w", i, err)
		}
		if first, twice := seen[r.ID]; twice {
			return nil, fmt.Errorf("item %d of the source: %w", i, &InputError{
				Field: "id", Value: r.ID, Want: fmt.Sprintf("an id that item %d does not have already", first),
			})
		}
		seen[r.ID] = i
		items[i] = catalogue.Item{ID: r.ID, Data: r.Object()}
	}
	return items, nil
}

func (o *office) tell(out catalogue.Outcome) {
	o.record.Resources, o.record.Added, o.record.Changed = out.Resources, out.Added, out.Changed
	o.record.Removed, o.record.Held, o.record.TooLarge = out.Removed, out.Held, len(out.Rejected)
	slices.Sort(out.Rejected) // so that the record changes only where they do
	o.record.Rejected = out.Rejected[:min(len(out.Rejected), maxRejected)]
	if out.Added+out.Changed+out.Removed+out.Held+len(out.Rejected) > 0 {
		o.m.log.Info("source synchronised", zap.Int("resources", out.Resources), zap.Int("added", out.Added),
			zap.Int("changed", out.Changed), zap.Int("removed", out.Removed), zap.Int("removals held", out.Held),
			zap.Int("too large", o.record.TooLarge), zap.Strings("of them", o.record.Rejected))
	}
}

// clip is the beginning of a text, where it is too long to keep.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// decodeSource reads the source key. What is not understood is as good as no record: the next fetch writes another.
func decodeSource(value []byte) (sourceRecord, error) {
	var r sourceRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return sourceRecord{}, err
	}
	if r.Resources < 0 || r.Held < 0 || r.TooLarge < 0 {
		return sourceRecord{}, errors.New("a count that is less than none")
	}
	return r, nil
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

func (o *office) writeRecord(ctx context.Context) error {
	b, err := json.Marshal(o.record)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	txn, err := o.m.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(o.m.layout.Coordinator()), "=", o.term)).
		Then(clientv3.OpPut(o.m.layout.Source(), string(b))).
		Commit()
	if err != nil {
		return fmt.Errorf("record the fetch: %w", err)
	}
	if !txn.Succeeded {
		return catalogue.ErrDeposed
	}
	return nil
}
