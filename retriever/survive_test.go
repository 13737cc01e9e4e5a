package retriever_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/retriever"
)

// unruly is an HTTP source whose answer a test can change while members ask it.
type unruly struct {
	*httptest.Server
	mu       sync.Mutex
	answer   http.HandlerFunc
	requests int // how many came since the answer was changed
}

func newUnruly(t *testing.T) *unruly {
	u := &unruly{answer: good()}
	u.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.requests++
		answer := u.answer
		u.mu.Unlock()
		answer(w, r)
	})
	return u
}

func (u *unruly) set(answer http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer, u.requests = answer, 0
}

func (u *unruly) asked() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests
}

// good answers with resources, or with 304 if they are the same as before.
func good(ids ...string) http.HandlerFunc {
	body := bodyOf(ids...)
	tag := fmt.Sprintf("%q", fmt.Sprint(len(ids), strings.Join(ids[:min(3, len(ids))], ",")))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body) // the client may be gone
	}
}

func bodyOf(ids ...string) []byte {
	items := make([]map[string]string, len(ids))
	for i, id := range ids {
		items[i] = map[string]string{"id": id}
	}
	body, err := json.Marshal(map[string]any{"data": items})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return body
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return ids
}

// deeds is a handler that counts its resources, and checks that none is handled twice at once.
type deeds struct {
	t          *testing.T
	mu         sync.Mutex
	held       map[string]string // resource → member
	terminated []string
}

func (d *deeds) handler() drm.Handler {
	return handler.New(handler.Funcs{
		Handle: func(_ context.Context, c drm.Claim) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if other, twice := d.held[c.Resource.ID]; twice {
				d.t.Errorf("%s is handled by %s and %s", c.Resource.ID, other, c.Member)
			}
			d.held[c.Resource.ID] = c.Member
			return nil
		},
		Terminate: func(_ context.Context, c drm.Claim) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.held, c.Resource.ID)
			d.terminated = append(d.terminated, c.Resource.ID)
			return nil
		},
	})
}

func (d *deeds) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// sofar returns what was terminated since the last call, sorted.
func (d *deeds) sofar() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.terminated
	d.terminated = nil
	slices.Sort(all)
	return all
}

// troupe has members that share an unruly source, and a client that watches them.
type troupe struct {
	t      *testing.T
	source *unruly
	deeds  *deeds
	client *drm.Client
}

// newTroupe starts members, and returns once they share the source's resources.
func newTroupe(t *testing.T, members int, cfg retriever.HTTPConfig, ids ...string) *troupe {
	t.Helper()
	etcd := drm.EtcdConfig{Client: embeddedtest.Client(t), CommandTimeout: patience}
	tr := &troupe{t: t, source: newUnruly(t), deeds: &deeds{t: t, held: map[string]string{}}}
	tr.source.set(good(ids...))
	cfg.URL, cfg.RetryWait, cfg.Attempts = tr.source.URL, time.Millisecond, 2
	for i := range members {
		src, err := retriever.NewHTTP(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m, err := drm.Start(t.Context(), drm.Config{
			App:       "app",
			ID:        fmt.Sprintf("m%d", i),
			Etcd:      etcd,
			Shards:    32,
			LeaseTTL:  time.Minute, // these tests are not about leases
			Handler:   tr.deeds.handler(),
			Retriever: src,
			// A good answer that is late on a slow machine must not make Start fail.
			PollInterval:     100 * time.Millisecond,
			RemovalDelay:     time.Millisecond,
			SettleDelay:      10 * time.Millisecond,
			FetchRetryBudget: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Stop(context.Background()); err != nil {
				t.Errorf("stop %s: %v", m.ID(), err)
			}
		})
	}
	client, err := drm.NewClient(t.Context(), drm.ClientConfig{App: "app", Etcd: etcd})
	if err != nil {
		t.Fatal(err)
	}
	tr.client = client
	tr.settled(members, ids...)
	tr.deeds.sofar()
	return tr
}

// until waits until the app's status is as wanted. The more resources there are, the more it costs to read the status.
// So until spends only a small part of the time on that.
func (tr *troupe) until(within time.Duration, what string, ok func(drm.Status) bool) drm.Status {
	tr.t.Helper()
	deadline := time.After(within)
	for {
		began := time.Now()
		s, err := tr.client.Status(tr.t.Context())
		if err != nil {
			tr.t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		select {
		case <-time.After(min(max(20*time.Millisecond, 5*time.Since(began)), time.Second)):
		case <-deadline:
			tr.t.Fatalf("not in time: %s; the status is %+v", what, s)
		}
	}
}

// settled waits until the members handle exactly these resources, each at its owner.
func (tr *troupe) settled(members int, ids ...string) {
	tr.t.Helper()
	n := len(ids)
	tr.until(time.Duration(max(1, n/2000))*patience, fmt.Sprintf("exactly %d are handled", n), func(s drm.Status) bool {
		return tr.deeds.count() == n && // the status does not count resources that are still to be terminated
			s.Active == n && s.Resources == n && s.Misplaced == 0 && s.Members == members
	})
	tr.deeds.mu.Lock()
	defer tr.deeds.mu.Unlock()
	for _, id := range ids {
		if tr.deeds.held[id] == "" {
			tr.t.Errorf("%s is not handled", id)
		}
	}
}

// failing is one way in which a source can fail.
type failing struct {
	name   string
	answer http.HandlerFunc
	told   string // a part of the error in the status
}

// TestASourceThatFailsIsSurvived makes one source fail in one way after the other, while the members go on working.
func TestASourceThatFailsIsSurvived(t *testing.T) {
	t.Parallel()
	ids := numbered("r", 40)
	body := bodyOf(ids...)
	tr := newTroupe(t, 2, retriever.HTTPConfig{Timeout: patience}, ids...)
	for _, c := range []failing{
		{"500 for a while", status(http.StatusInternalServerError), "status 500"},
		{"garbage", answering("<html>maintenance</html>"), "invalid JSON"},
		{"something else", answering(`{"error":"maintenance"}`), `an array "data"`},
		{"half a body, and the connection breaks", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:len(body)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "ends early"},
		{"half a body that ends well", answering(string(body[:len(body)/2])), "ends early"},
		{
			"more bad items than good ones", answering(`{"data":[{"id":"r-0"},{"id":7},{"id":8}]}`),
			"2 of its 3 items are bad: item 1",
		},
	} {
		tr.survives(t, c, ids)
	}
	t.Run("it works as before", func(t *testing.T) {
		tr := *tr
		tr.t = t
		more := append(slices.Clone(ids), "new")
		tr.source.set(good(more...))
		tr.settled(2, more...)
		if gone := tr.deeds.sofar(); len(gone) > 0 {
			t.Errorf("%d were terminated", len(gone))
		}
	})
}

func TestASourceThatFallsSilentIsSurvived(t *testing.T) {
	t.Parallel()
	ids := numbered("r", 40)
	body := bodyOf(ids...)
	tr := newTroupe(t, 2, retriever.HTTPConfig{Timeout: 200 * time.Millisecond}, ids...)
	for _, c := range []failing{
		{"silence", silent(""), "Timeout"},
		{"silence after half a body", silent(string(body[:len(body)/2])), "Timeout"},
	} {
		tr.survives(t, c, ids)
	}
}

// answering answers every request with this body.
func answering(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { write(w, body) }
}

// survives makes the source fail, and then work again.
func (tr *troupe) survives(t *testing.T, c failing, ids []string) {
	t.Run(c.name, func(t *testing.T) {
		tr := *tr
		tr.t = t
		before := tr.until(patience, "the source works", func(s drm.Status) bool { return s.Source.Error == "" })
		tr.source.set(c.answer)
		bad := tr.until(patience, fmt.Sprintf("the failure is told by %q", c.told), func(s drm.Status) bool {
			return strings.Contains(s.Source.Error, c.told) && tr.source.asked() >= 3 // it is asked again and again
		})
		if bad.Source.LastSuccess.Before(before.Source.LastSuccess) ||
			!bad.Source.LastAttempt.After(bad.Source.LastSuccess) ||
			bad.Source.Resources != len(ids) || bad.Active != len(ids) {
			t.Errorf("the status says %+v, before it said %+v", bad, before)
		}
		tr.source.set(good(ids...))
		after := tr.until(patience, "the source works again", func(s drm.Status) bool { return s.Source.Error == "" })
		if !after.Source.LastSuccess.After(bad.Source.LastSuccess) {
			t.Errorf("the last success was %v, and is %v", bad.Source.LastSuccess, after.Source.LastSuccess)
		}
		if gone := tr.deeds.sofar(); len(gone) > 0 {
			t.Errorf("%d were terminated", len(gone))
		}
		tr.settled(2, ids...)
	})
}

// once answers one request, and holds the next ones until it is released, so that a test can see what came of that one.
func once(answer http.HandlerFunc) (held http.HandlerFunc, release func()) {
	var mu sync.Mutex
	first, released := true, make(chan struct{})
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		mine := first
		first = false
		mu.Unlock()
		if !mine {
			select {
			case <-released:
			case <-r.Context().Done():
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answer(w, r)
	}, sync.OnceFunc(func() { close(released) })
}

func TestAnAnswerThatLacksMuchIsBelievedOnlyTheSecondTime(t *testing.T) {
	t.Parallel()
	ids := numbered("r", 40)
	tr := newTroupe(t, 2, retriever.HTTPConfig{Timeout: patience}, ids...)
	for name, left := range map[string][]string{"an empty list": {}, "less than half": ids[:19], "half": ids[:20]} {
		t.Run(name, func(t *testing.T) {
			tr := *tr
			tr.t = t
			answer, release := once(good(left...))
			defer release()
			tr.source.set(answer)
			isTold := func(s drm.Status) bool { return s.Source.Resources == len(left) }
			s := tr.until(patience, "the answer is told", isTold)
			if s.Source.Error != "" || s.Resources != len(ids) || s.Active != len(ids) {
				t.Errorf("the status says %+v", s)
			}
			tr.until(patience, "it is asked again", func(drm.Status) bool { return tr.source.asked() >= 2 })
			tr.source.set(good(ids...)) // it was a mistake
			release()
			works := func(s drm.Status) bool { return s.Source.Resources == len(ids) }
			tr.until(patience, "the source works again", works)
			tr.settled(2, ids...)
			if gone := tr.deeds.sofar(); len(gone) > 0 {
				t.Errorf("%d were terminated", len(gone))
			}
		})
	}
	t.Run("half of them, said again", func(t *testing.T) {
		tr := *tr
		tr.t = t
		tr.source.set(good(ids[:20]...))
		tr.settled(2, ids[:20]...)
		want := slices.Clone(ids[20:])
		slices.Sort(want)
		if gone := tr.deeds.sofar(); !slices.Equal(gone, want) {
			t.Errorf("terminated %v, want %v, each once", gone, want)
		}
	})
	t.Run("none, said again", func(t *testing.T) {
		tr := *tr
		tr.t = t
		tr.source.set(good())
		tr.settled(2)
		if gone := tr.deeds.sofar(); len(gone) != 20 {
			t.Errorf("terminated %v, want the 20 that were left, each once", gone)
		}
	})
}

func TestAListThatGrowsHugeIsSurvived(t *testing.T) {
	t.Parallel()
	n := 100_000
	if testing.Short() || raceDetector {
		n = 10_000
	}
	few := numbered("r", 10)
	tr := newTroupe(t, 2, retriever.HTTPConfig{Timeout: time.Minute}, few...)
	begin := time.Now()
	many := slices.Concat(few, numbered("more", n-len(few)))
	tr.source.set(good(many...))
	tr.settled(2, many...)
	t.Logf("%d resources were handled after %v", n, time.Since(begin).Round(time.Millisecond))
	if gone := tr.deeds.sofar(); len(gone) > 0 {
		t.Errorf("%d were terminated", len(gone))
	}
	s := tr.until(patience, "the answer is told", func(s drm.Status) bool { return s.Source.Resources == n })
	if s.Source.Error != "" {
		t.Errorf("the status says %+v", s)
	}
}
