package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// badOnes is the error of a Fetch that found bad items.
func badOnes(items ...drm.BadItem) error {
	bad := &drm.BadItemsError{}
	for _, item := range items {
		if item.Err == nil {
			item.Err = errors.New("no good")
		}
		bad.Add(item)
	}
	return fmt.Errorf("asking the test: %w", bad)
}

// versions makes resources of a version.
func versions(v int, ids ...string) []drm.Resource {
	all := make([]drm.Resource, len(ids))
	for i, id := range ids {
		all[i] = drm.Resource{ID: id, Data: json.RawMessage(fmt.Sprintf(`{"id":%q,"v":%d}`, id, v))}
	}
	return all
}

// sourced returns the config of a member with a source, and the member's log.
func (w *world) sourced(id string, h drm.Handler, src drm.Retriever) (drm.Config, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	cfg := w.config(id, h)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval, cfg.Logger = false, src, 100*time.Millisecond, zap.New(core)
	return cfg, logs
}

// asked waits until the source has been asked twice more. Then its present answer is in the catalogue and the record.
func (s *source) asked(r *recorder) {
	r.tb.Helper()
	_, before, _ := s.counts()
	r.until("the source is asked again", func() bool { _, n, _ := s.counts(); return n > before+2 })
}

func (w *world) status() drm.Status {
	w.tb.Helper()
	s, err := w.client().Status(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

// held returns the ids that are handled, in order.
func held(r *recorder) string {
	var all []string
	for id := range r.holders() {
		all = append(all, id)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestOneBadItemStopsNothing(t *testing.T) {
	t.Parallel()
	const start = "a b c d"
	for name, c := range map[string]struct {
		answer []drm.Resource
		err    error
		held   string   // the ids that are handled; "" where nothing changes
		bad    []string // the ids of bad items in the status
		says   string
		old    string // the ids whose data must not change
	}{
		"an id that is known and not in the answer": {
			versions(2, "a", "b", "c", "e"), badOnes(drm.BadItem{Index: 3, ID: "d"}),
			"a b c d e",
			[]string{"d"},
			"no good", "d",
		},
		"an id that the answer has too": {
			versions(2, "a", "b", "d", "e"), badOnes(drm.BadItem{Index: 3, ID: "d"}),
			"a b d e",
			[]string{"d"},
			"no good", "d",
		},
		"an unknown id": {
			versions(2, "a", "b", "c"), badOnes(drm.BadItem{ID: "e"}), "a b c", []string{"e"}, "no good", "",
		},
		"no id": {
			versions(2, "a", "e"), badOnes(drm.BadItem{}), "a b c d e", []string{""}, "no good", "b c d",
		},
		"an id that cannot be": {
			versions(2, "a", "e"), badOnes(drm.BadItem{ID: "a\n"}), "a b c d e", []string{""}, "no good", "b c d",
		},
		"no id, but it repeats": {
			versions(2, "a", "b", "c"), badOnes(drm.BadItem{Repeats: true}), "a b c", []string{""}, "no good", "",
		},
		"a resource without id": {versions(2, "a", "", "e"), nil, "a b c d e", []string{""}, "not empty", "b c d"},
		"a resource of another": {
			append(versions(2, "a", "b"), drm.Resource{ID: "c", Data: []byte(`{"id":"d"}`)}), nil,
			"a b c d",
			[]string{"c"},
			`resource's id "c"`, "c d",
		},
		"data that are no object": {
			append(versions(2, "a", "b"), drm.Resource{ID: "c", Data: []byte(`[7]`)}), nil,
			"a b c",
			[]string{"c"},
			"an array", "c",
		},
		"a known id twice": {
			append(versions(2, "a", "b", "c"), append(versions(3, "c"), versions(2, "e")...)...), nil,
			"a b c e",
			[]string{"c"},
			"item 2", "c",
		},
		"a known id twice, the same": {
			append(versions(2, "a", "b", "c"), versions(2, "c", "e")...), nil,
			"a b c e",
			[]string{"c"},
			"item 2", "",
		},
		"a new id twice": {
			append(versions(2, "a", "b", "e"), versions(3, "e")...), nil, "a b e", []string{"e"}, "item 2", "",
		},
		"more bad than good": {
			versions(2, "a"), badOnes(drm.BadItem{ID: "x"}, drm.BadItem{ID: "y"}),
			"",
			[]string{"x", "y"},
			"no good", start,
		},
		"only bad ones": {nil, badOnes(drm.BadItem{}), "", []string{""}, "no good", start},
		"a failure besides": {
			versions(2, "a"), errors.Join(badOnes(drm.BadItem{ID: "x"}), errors.New("half")), "", nil, "", start,
		},
		"an error that panics": {
			versions(2, "a", "b", "c"), badOnes(drm.BadItem{ID: "d", Err: panicking{}}),
			"a b c d",
			[]string{"d"},
			"panics", "d",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			src := newSource()
			src.set(versions(1, strings.Fields(start)...), nil)
			cfg, _ := w.sourced("m", r, src)
			w.start(cfg)
			r.until("all are handled", func() bool { return held(r) == start })
			src.set(c.answer, c.err)
			src.asked(r)
			refused := c.held == ""
			if refused {
				c.held = start
			}
			r.until("what is good is handled", func() bool { return held(r) == c.held })
			src.asked(r) // it must stay so
			s := w.status()
			var bad []string
			for _, b := range s.Source.BadItems {
				bad = append(bad, b.ID)
			}
			if held(r) != c.held || (s.Source.Error != "") != refused || !slices.Equal(bad, c.bad) ||
				s.Source.Bad != len(c.bad) ||
				len(bad) > 0 && !strings.Contains(s.Source.BadItems[0].Error, c.says) {
				t.Errorf("handled %q, want %q; the status says %+v", held(r), c.held, s.Source)
			}
			entries, err := w.client().Resources(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				want := 2
				if slices.Contains(strings.Fields(c.old), e.Resource.ID) {
					want = 1
				}
				if !strings.Contains(string(e.Resource.Data), fmt.Sprintf(`"v":%d}`, want)) {
					t.Errorf("%v has the data %s, want version %d", e.Resource, e.Resource.Data, want)
				}
			}
			found, err := w.client().Verify(t.Context())
			named := slices.ContainsFunc(found, func(v drm.Violation) bool { return v.Kind == drm.ViolationBadItem })
			if err != nil || named != (len(bad) > 0) {
				t.Errorf("verify: %+v, %v", found, err)
			}
			src.set(versions(2, "a", "b", "c"), nil)
			r.until("the source is clear again", func() bool {
				return held(r) == "a b c" && w.status().Source.Bad == 0
			})
		})
	}
}

// panicking is an error whose Error method panics.
type panicking struct{}

func (panicking) Error() string { panic("no text") }

func TestOneBadItemDoesNotFailTheFirstFetch(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		for most, err := range map[bool]error{
			false: badOnes(drm.BadItem{}), true: badOnes(drm.BadItem{}, drm.BadItem{}, drm.BadItem{}),
		} {
			w, r := newWorld(t), newRecorder(t)
			src := newSource()
			src.set(versions(1, "a", "b"), err)
			cfg, _ := w.sourced("m", r, src)
			cfg.SourceStrict, cfg.FetchRetryBudget = strict, time.Millisecond
			m, err := w.tryStart(t.Context(), cfg)
			if !strict && !most {
				if err != nil {
					t.Fatal(err)
				}
				r.until("the good ones are handled", func() bool { return held(r) == "a b" })
				w.stop(m)
				continue
			}
			var bad *drm.BadItemsError
			if err == nil || !errors.As(err, &bad) || !strings.Contains(err.Error(), "asking the test: ") ||
				!strings.Contains(err.Error(),
					fmt.Sprintf("%d of its %d items are bad: item 0: no good", bad.Count(), bad.Count()+2)) {
				t.Errorf("strict %t, most %t: %v", strict, most, err)
			}
		}
	}
}

func TestAStrictSourceRefusesAnAnswerForOneBadItem(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("a", "b")
	cfg, _ := w.sourced("m", r, src)
	cfg.SourceStrict = true
	w.start(cfg)
	r.until("both are handled", func() bool { return held(r) == "a b" })
	for _, err := range []error{nil, badOnes(drm.BadItem{ID: "b"})} {
		src.set(resources("a", "c", "c"), err)
		r.until("it is refused", func() bool {
			s := w.status().Source
			return strings.Contains(s.Error, "SourceStrict") && s.Bad > 0
		})
		src.asked(r)
		if held(r) != "a b" {
			t.Errorf("handled: %s", held(r))
		}
	}
}

// The same bad items at each poll are news only once, in whatever order the source lists them.
func TestBadItemsAreNewsWhenTheyChange(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource()
	src.set(versions(1, "a", "b", "c"), badOnes(drm.BadItem{Index: 1, ID: "x"}, drm.BadItem{Index: 2, ID: "y"}))
	cfg, logs := w.sourced("m", r, src)
	var mu sync.Mutex
	var told []error
	cfg.OnSourceError = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err)
	}
	w.start(cfg)
	news := func(want int) {
		t.Helper()
		src.asked(r)
		src.asked(r)
		n := len(logged(t, logs, "the source has bad items", want))
		await(t, "OnSourceError is told as often", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) >= want
		})
		mu.Lock()
		defer mu.Unlock()
		if n != want || len(told) != want {
			t.Errorf("logged %d times, told %d times, want %d: %v", n, len(told), want, told)
		}
	}
	news(1)
	src.set(versions(1, "a", "b", "c"), badOnes(drm.BadItem{Index: 7, ID: "y"}, drm.BadItem{Index: 8, ID: "x"}))
	news(1)
	src.set(nil, drm.ErrNotModified)
	news(1)
	if s := w.status().Source; s.Bad != 2 || len(s.BadItems) != 2 || s.Error != "" {
		t.Errorf("after an answer that is unchanged: %+v", s)
	}
	src.set(versions(1, "a", "b", "c"), badOnes(drm.BadItem{Index: 7, ID: "y"}))
	news(2)
	src.set(versions(1, "a", "b", "c"), nil)
	news(2)
	if n := len(logged(t, logs, "no bad items any more", 1)); n != 1 {
		t.Errorf("log: %+v", logs.All())
	}
	var bad *drm.BadItemsError
	if !errors.As(told[1], &bad) || bad.Items()[0].ID != "y" ||
		told[1].Error() != `asking the test: item 7 (id "y"): no good` {
		t.Errorf("told %v", told[1])
	}
}

// What an answer left uncertain stays uncertain while the source says that nothing has changed.
func TestAnUnchangedAnswerKeepsWhatTheLastOneKept(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"an id": badOnes(drm.BadItem{ID: "c"}), "no id": badOnes(drm.BadItem{})} {
		w, r := newWorld(t), newRecorder(t)
		src := newSource("a", "b", "c")
		cfg, _ := w.sourced("m", r, src)
		w.start(cfg)
		r.until("all are handled", allHeld(r, 3))
		src.set(resources("a", "b"), err)
		src.asked(r)
		src.set(nil, drm.ErrNotModified)
		src.asked(r)
		if held(r) != "a b c" {
			t.Errorf("%s: handled: %s", name, held(r))
		}
	}
}

func TestAnItemThatIsTooLargeKeepsWhatItWasAndIsNamed(t *testing.T) {
	t.Parallel()
	// The sizes are above the limit of etcd, above that of its client, and far above both.
	for _, size := range []int{1 << 20 * 8 / 5, 3 << 20, 20 << 20} {
		w, r := newWorld(t), newRecorder(t)
		large := func(v int) drm.Resource {
			return drm.Resource{
				ID:   "large",
				Data: json.RawMessage(fmt.Sprintf(`{"id":"large","v":%d,"pad":%q}`, v, strings.Repeat("x", size))),
			}
		}
		src := newSource()
		src.set(append(versions(1, "a", "b"), large(1)), nil) // the first answer may have such an item, too
		cfg, logs := w.sourced("m", r, src)
		w.start(cfg)
		r.until("the others are handled", func() bool { return held(r) == "a b" })
		src.set(versions(1, "a", "b", "large"), nil)
		r.until("all are handled", func() bool { return held(r) == "a b large" })
		src.set(append(versions(2, "a", "c"), large(2)), nil)
		r.until("the others are handled", func() bool { return held(r) == "a c large" })
		src.asked(r)
		s := w.status().Source
		want := []drm.SourceBadItem{{Index: -1, ID: "large", Error: "it does not fit into one request to etcd"}}
		if s.Bad != 1 || s.TooLarge != 1 || !slices.Equal(s.BadItems, want) || s.Error != "" {
			t.Errorf("the status says %+v", s)
		}
		if n := len(logged(t, logs, "the source has bad items", 2)); n != 2 {
			t.Errorf("logged %d times", n)
		}
		found, err := w.client().Verify(t.Context())
		if err != nil || len(found) != 1 || found[0].Kind != drm.ViolationTooLarge || found[0].Resource != "large" {
			t.Errorf("verify: %+v, %v", found, err)
		}
		if a, err := w.client().Resources(t.Context()); err != nil || len(a) != 3 ||
			!strings.Contains(string(a[2].Resource.Data), `"v":1`) {
			t.Errorf("resources: %d, %v", len(a), err)
		}
	}
}

// The record is written at each poll, and has to fit into a request.
func TestTheRecordOfBadItemsIsBounded(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	bad := make([]drm.BadItem, 500)
	good := make([]string, len(bad))
	for i := range bad {
		bad[i] = drm.BadItem{
			Index: i, ID: strings.Repeat("<", 500) + fmt.Sprint(i), Err: errors.New(strings.Repeat("\x01", 100_000)),
		}
		good[i] = fmt.Sprint("r", i)
	}
	src := newSource()
	src.set(resources(good...), badOnes(bad...))
	cfg, _ := w.sourced("m", r, src)
	w.start(cfg)
	r.until("the good ones are handled", allHeld(r, len(good)))
	resp, err := w.etcd.Get(context.Background(), "/drm/app/source")
	if err != nil || len(resp.Kvs) != 1 || len(resp.Kvs[0].Value) > 420<<10 {
		t.Fatalf("%v, %v", len(resp.Kvs[0].Value), err)
	}
	if s := w.status().Source; s.Bad != len(bad) || len(s.BadItems) < 50 {
		t.Errorf("%d, %d of them", s.Bad, len(s.BadItems))
	}
}
