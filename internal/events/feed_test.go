package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/membership"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

// stage is an app in a real etcd, written by hand.
type stage struct {
	*Feed
	t      *testing.T
	leases [2]clientv3.LeaseID
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{Feed: &Feed{embeddedtest.Client(t), layout, testShards, 30 * time.Second}, t: t}
	for i := range s.leases {
		granted, err := s.Client.Grant(t.Context(), 3600)
		if err != nil {
			t.Fatal(err)
		}
		s.leases[i] = granted.ID
	}
	s.write(edit{layout.Config(), appconfig.Encode(testShards), 0})
	return s
}

// write makes some writes in one transaction, and returns its revision. An edit's lease is the number of one of the
// stage's leases, from 1.
func (s *stage) write(edits ...edit) int64 {
	s.t.Helper()
	var ops []clientv3.Op
	for _, e := range edits {
		switch {
		case e.value == "":
			ops = append(ops, clientv3.OpDelete(e.key))
		case e.lease == 0:
			ops = append(ops, clientv3.OpPut(e.key, e.value))
		default:
			ops = append(ops, clientv3.OpPut(e.key, e.value, clientv3.WithLease(s.leases[e.lease-1])))
		}
	}
	resp, err := s.Client.Txn(s.t.Context()).Then(ops...).Commit()
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (s *stage) compact(revision int64) {
	s.t.Helper()
	if _, err := s.Client.Compact(s.t.Context(), revision); err != nil {
		s.t.Fatal(err)
	}
}

// all returns the events of a history.
func (s *stage) all(o Options) []Event {
	s.t.Helper()
	var all []Event
	for e, err := range s.Events(s.t.Context(), o) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// follow returns the events that come, until one is about the resource last.
func (s *stage) follow(o Options, last string, began func()) []Event {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	o.Follow = true
	var all []Event
	for e, err := range s.Events(ctx, o) {
		if err != nil {
			s.t.Fatalf("after %d events: %v", len(all), err)
		}
		if len(all) == 0 && began != nil {
			began()
		}
		all = append(all, e)
		if e.Resource == last {
			break
		}
	}
	return all
}

// random makes a random change of what members do with some resources.
func (s *stage) random(r *rand.Rand) {
	id, member := fmt.Sprintf("r%d", r.IntN(12)), fmt.Sprintf("m%d", r.IntN(2))
	key, lease := layout.Claim(shardOf(id), id), int64(1+r.IntN(2))
	switch r.IntN(9) {
	case 0: // several events of one revision, in an order of its own
		s.write(
			entry(id, "source", ""), entry("s1", "source", ""), entry("s2", "allocated", ""),
			edit{layout.Drain(member), membership.Restriction{Order: membership.Order{By: "bob"}}.Encode(), 0},
		)
	case 1:
		s.write(entry(id, "allocated suspended", fmt.Sprintf(`,"x":%d`, r.IntN(3))))
	case 2:
		s.write(gone(layout.Resource(shardOf(id), id)))
	case 3:
		s.write(gone(key))
	case 4:
		s.write(edit{layout.Drain(member), membership.Restriction{Order: membership.Order{By: "ann"}}.Encode(), 0})
	case 5:
		s.write(gone(layout.Drain(member)))
	default:
		have, err := s.Client.Get(s.t.Context(), key)
		if err != nil {
			s.t.Fatal(err)
		}
		state := claims.Claimed
		if len(have.Kvs) > 0 { // a member writes no other one's claim
			old, _ := claims.Decode(have.Kvs[0].Value)
			member, state = old.Member, []string{claims.Active, claims.Failed, claims.Claimed}[r.IntN(3)]
			lease = int64(1 + slices.Index(s.leases[:], clientv3.LeaseID(have.Kvs[0].Lease)))
		}
		e := claim(id, member, state, time.Now(), "", lease)
		s.write(e)
		if state == claims.Claimed && len(have.Kvs) == 0 && r.IntN(2) == 0 {
			now, err := s.Client.Get(s.t.Context(), key)
			if err != nil {
				s.t.Fatal(err)
			}
			l := int64(s.leases[lease-1])
			s.write(edit{
				layout.Summary(shardOf(id), l),
				string(claims.Summary{Member: member, Through: now.Kvs[0].ModRevision}.Encode()), lease,
			})
		}
	}
}

// fold is what a reader of events knows.
type fold map[string]string

func (f fold) take(e Event) {
	claim, entry := "claim "+e.Resource, "entry "+e.Resource
	drain := "drain " + e.Member
	set := func(id, state string) {
		f["claim "+id] = fmt.Sprintf("%s %s", f["claimant "+id], state)
	}
	switch e.Kind {
	case Gap:
		clear(f)
	case Listed:
		switch e.Of {
		case OfClaim:
			f["claimant "+e.Resource] = fmt.Sprintf("%s %d", e.Member, e.Token)
			set(e.Resource, e.State)
		case OfResource:
			f[entry] = e.State
		case OfDrain:
			f[drain] = e.By
		}
	case Claimed:
		f["claimant "+e.Resource] = fmt.Sprintf("%s %d", e.Member, e.Token)
		set(e.Resource, claims.Claimed)
	case Active, Recovered:
		for _, id := range append(slices.Clone(e.Resources), e.Resource) {
			if id != "" {
				set(id, claims.Active)
			}
		}
	case Failed:
		set(e.Resource, claims.Failed)
	case Handling:
		set(e.Resource, claims.Claimed)
	case Released, Lost:
		delete(f, claim)
		delete(f, "claimant "+e.Resource)
	case ResourceAdded, ResourceWoken, Resumed:
		if f[entry] = stateWanted; e.Detail == stateSuspended {
			f[entry] = stateSuspended
		}
	case ResourceSuspended, Suspended:
		f[entry] = stateSuspended
	case ResourceRemoved:
		delete(f, entry)
	case Drained:
		f[drain] = e.By
	case Undrained:
		delete(f, drain)
	}
}

// listed returns what a reader knows after a list of what there is now.
func (s *stage) listed() fold {
	s.t.Helper()
	head, err := s.Client.Get(s.t.Context(), layout.Config())
	if err != nil {
		s.t.Fatal(err)
	}
	f := fold{}
	l := &lister{
		f: s.Feed, d: NewDecoder(layout, testShards, 1, nil), revision: head.Header.Revision,
		tell: func(page []Event) error {
			for _, e := range page {
				f.take(e)
			}
			return nil
		},
	}
	if err := l.list(s.t.Context(), anywhere); err != nil {
		s.t.Fatal(err)
	}
	return f
}

// older answers as an etcd that has no streams of keys.
type older struct{ clientv3.KV }

func (older) GetStream(context.Context, string, ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return nil, status.Error(codes.Unimplemented, "unknown method RangeStream")
}

func TestEventsFoldedOverAListAreALaterList(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s, r := newStage(t), rand.New(rand.NewPCG(seed, 1))
		for range 150 {
			s.random(r)
		}
		known := s.listed()
		head, err := s.head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 150 {
			s.random(r)
		}
		for _, e := range s.all(Options{Since: head}) {
			known.take(e)
		}
		if diff := cmp.Diff(s.listed(), known); diff != "" {
			t.Errorf("seed %d (-list +folded):\n%s", seed, diff)
		}
		s.compact(head + 20)
		known = fold{"claim of old": "x"}
		for _, e := range s.all(Options{Since: head}) {
			known.take(e)
		}
		streamed := s.listed()
		if diff := cmp.Diff(streamed, known); diff != "" {
			t.Errorf("seed %d, after a gap (-list +folded):\n%s", seed, diff)
		}
		s.Client.KV = older{s.Client.KV}
		if diff := cmp.Diff(s.listed(), streamed); diff != "" {
			t.Errorf("seed %d, without streams (-list +streamed):\n%s", seed, diff)
		}
	}
}

func (f *Feed) head(ctx context.Context) (int64, error) {
	resp, err := f.get(ctx, f.Layout.Config())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

func TestAReaderThatStopsAnywhereMissesNothing(t *testing.T) {
	t.Parallel()
	s, r := newStage(t), rand.New(rand.NewPCG(7, 1))
	for range 60 {
		s.random(r)
	}
	s.write(entry("a", "source", ""), entry("b", "source", ""), entry("c", "source", ""))
	type place struct {
		revision int64
		index    int
	}
	all := s.all(Options{Since: 1})
	for i := 0; i < len(all); i += 1 + len(all)/10 {
		if i > len(all)-3 {
			i = len(all) - 2 // in the middle of a revision
		}
		again := s.all(Options{Since: all[i].Cursor})
		seen := map[place]bool{}
		for _, e := range all[:i+1] {
			seen[place{e.Revision, e.Index}] = true
		}
		again = slices.DeleteFunc(again, func(e Event) bool { return seen[place{e.Revision, e.Index}] })
		if len(again) != len(all)-i-1 {
			t.Fatalf("stopped after %d of %d events, and %d more came", i+1, len(all), len(again))
		}
		for j, e := range again {
			if want := all[i+1+j]; e.Kind != want.Kind || e.Revision != want.Revision || e.Index != want.Index {
				t.Fatalf("after %d events: got %+v, want %+v", i+1+j, e, want)
			}
		}
		if e := all[i]; e.Cursor == e.Revision && again[0].Revision == e.Revision {
			t.Errorf("%+v is not the last of its revision", e)
		}
	}
}

func TestWhatIsFollowedIsWhatHistoryTells(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		filter Filter
	}{
		{"everything", Filter{}},
		{"resources of several shards", Filter{Resources: []string{"r1", "r2", "r3", "s1", "s2", "end"}}},
		{
			"kinds below several prefixes",
			Filter{Kinds: []Kind{Claimed, Drained, Released, RebalanceOrdered, ResourceAdded}},
		},
		{"a member", Filter{Member: "m1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, r := newStage(t), rand.New(rand.NewPCG(9, 1))
			start := s.write(entry("r1", "source", ""))
			written := make(chan struct{})
			go func() {
				defer close(written)
				for range 200 {
					s.random(r)
				}
				s.write(claim("end", "m1", claims.Claimed, at, "", 1), entry("end", "source", ""))
			}()
			live := s.follow(Options{Since: start - 1, Filter: tt.filter}, "end", nil)
			<-written
			history := s.all(Options{Since: start - 1, Filter: tt.filter})
			history = history[:min(len(history), len(live))]
			strip := func(all []Event) (w []string) {
				for _, e := range all {
					e.Time = time.Time{}
					w = append(w, fmt.Sprint(e.Revision, e.Cursor, e.Index)+words(e))
				}
				return w
			}
			live[len(live)-1].Cursor = history[len(history)-1].Cursor // more of that revision may come
			if diff := cmp.Diff(strip(history), strip(live)); diff != "" {
				t.Errorf("(-history +live):\n%s", diff)
			}
			if len(live) < 20 {
				t.Errorf("only %d events", len(live))
			}
		})
	}
}

func TestAGapIsFollowedByAListAndThenByWhatIsNew(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first := s.write(entry("a", "source", `,"password":"x"`))
	s.write(claim("a", "m", claims.Claimed, at, "", 1), memberKey(membership.Active, nil).on(1))
	s.write(edit{
		layout.Summary(shardOf("a"), int64(s.leases[0])),
		string(claims.Summary{Member: "m", Through: first + 1}.Encode()), 1,
	})
	s.write(entry("b", "allocated", ""))
	drain := membership.Restriction{Order: membership.Order{By: "ann"}}
	compacted := s.write(edit{layout.Drain("m"), drain.Encode(), 0})
	s.compact(compacted)
	got := s.follow(Options{Since: first}, "end", func() { s.write(entry("end", "source", "")) })
	if len(got) != 8 {
		t.Fatalf("got %d events: %+v", len(got), got)
	}
	if e := got[0]; e.Kind != Gap || e.After != first || e.Cursor != first || e.Revision < compacted {
		t.Errorf("got %+v, want a gap after %d", e, first)
	}
	var list []string
	for _, e := range got[1:6] {
		if e.Kind != Listed || e.Revision != got[0].Revision || e.Cursor != first {
			t.Errorf("got %+v, want it listed", e)
		}
		list = append(list, fmt.Sprintf("%s %s %s %s %s", e.Of, e.Resource, e.Member, e.State, e.By))
	}
	want := []string{
		"drain  m  ann", "member  m active ", "resource b  wanted allocation", "claim a m active ",
		"resource a  wanted source",
	}
	slices.Sort(want)
	slices.Sort(list)
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if e := got[6]; e.Kind != ListEnd || e.Cursor != got[0].Revision {
		t.Errorf("got %+v, want the end of the list", e)
	}
	if e := got[7]; e.Kind != ResourceAdded || e.Cursor != e.Revision {
		t.Errorf("got %+v, want what is new", e)
	}

	// What was asked for is compacted, and it does not matter since nothing is missing.
	if got := s.all(Options{Since: compacted}); len(got) != 1 || got[0].Resource != "end" {
		t.Errorf("after the compacted revision: %+v", got)
	}
	if got := s.all(Options{Since: compacted - 1}); len(got) == 0 || got[0].Kind != Gap {
		t.Errorf("from the compacted revision on: %+v, want a gap: deletions of that revision are forgotten", got)
	}
}

// on is an edit on another lease.
func (e edit) on(lease int64) edit {
	e.lease = lease
	return e
}

func TestACompactionWhileTheReaderIsSlowIsAGap(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	start := s.write(entry("a", "source", ""))
	const many = 60
	slow := func() { // the reader has the first event, and waits until all of this has happened
		var edits []edit
		for i := range 120 {
			edits = append(edits, claim(fmt.Sprintf("c%d", i), "m", claims.Claimed, at, "", 1))
		}
		ended := make([]edit, len(edits))
		for i, e := range edits {
			ended[i] = gone(e.key)
		}
		for range many {
			s.write(edits...)
			s.write(ended...)
		}
		s.compact(s.write(entry("b", "source", "")))
		s.write(entry("end", "source", ""))
	}
	got := s.follow(Options{Since: start - 1}, "end", slow)
	revision, index, gaps := int64(0), -1, 0
	for _, e := range got {
		switch {
		case e.Kind == Gap:
			gaps++
		case e.Revision < revision || e.Revision == revision && e.Index <= index:
			t.Fatalf("%+v after revision %d, index %d", e, revision, index)
		}
		revision, index = e.Revision, e.Index
	}
	if gaps > 1 || len(got) > 120*2*many+10 || gaps == 0 && len(got) < 120*2*many {
		t.Errorf("%d events with %d gaps", len(got), gaps)
	}
}

func TestASlowReaderMissesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	start := s.write(entry("a", "source", ""))
	const each, many = 100, 80
	got := s.follow(Options{Since: start - 1}, "end", func() {
		var edits, ended []edit
		for i := range each {
			e := claim(fmt.Sprintf("c%d", i), "m", claims.Claimed, at, "", 1)
			edits, ended = append(edits, e), append(ended, gone(e.key))
		}
		for range many {
			s.write(edits...)
			s.write(ended...)
		}
		s.write(entry("end", "source", ""))
	})
	if len(got) != 2*each*many+2 {
		t.Errorf("got %d events, want %d", len(got), 2*each*many+2)
	}
}

func TestEventsOfALatelyPastTime(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	now := time.Now()
	for i := range 5 {
		s.write(claim(fmt.Sprintf("old%d", i), "m", claims.Claimed, now.Add(-time.Hour), "", 1))
	}
	s.write(gone(layout.Claim(shardOf("old0"), "old0"))) // nothing says when
	s.write(claim("new", "m", claims.Claimed, now, "", 1))
	for _, tt := range []struct {
		ago   time.Duration
		first string
		n     int
	}{
		{2 * time.Hour, "", 8}, {10 * time.Minute, "old0", 2},
	} {
		got := s.all(Options{Ago: tt.ago})
		if len(got) != tt.n || got[0].Resource != tt.first {
			t.Errorf("%s ago: %d events %+v, want %d from %q on", tt.ago, len(got), got, tt.n, tt.first)
		}
	}
	s.write(gone(layout.Claim(shardOf("new"), "new")))
	if got := s.all(Options{Ago: time.Nanosecond}); len(got) != 1 || !got[0].Estimated {
		t.Errorf("got %+v, want the last, of which nothing says when it was", got)
	}
	if got := s.all(Options{}); len(got) != 0 {
		t.Errorf("without a beginning: %+v", got)
	}
}

func TestTheBeginningIsFoundByHalves(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	now := time.Now()
	const many = near + 1500
	var edits []edit
	for i := range many { // each write is a revision, as etcd has it
		order := membership.Order{Since: now.Add(time.Duration(i-many) * time.Hour)}
		edits = append(edits, edit{layout.Drain("m"), membership.Restriction{Order: order}.Encode(), 0})
	}
	for _, e := range edits {
		s.write(e)
	}
	got := s.all(Options{Ago: 100*time.Hour + 30*time.Minute})
	if len(got) != 100 {
		t.Errorf("got %d events, want 100", len(got))
	}
	tail := &tail{Feed: s.Feed}
	head, err := s.head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from, short, err := tail.find(t.Context(), now.Add(-100*time.Hour), head)
	if err != nil || from < head-near || from > head-100 || short {
		t.Errorf("begins at %d of %d: %v, short: %v", from, head, err, short)
	}
}

// Whoever asks for the last minutes, and sees little, should know whether little has happened.
func TestAHistoryThatDoesNotGoBackFarEnoughIsToldOf(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	write := func(ago time.Duration) int64 {
		order := membership.Order{Since: time.Now().Add(-ago)}
		return s.write(edit{layout.Drain("m"), membership.Restriction{Order: order}.Encode(), 0})
	}
	shortOf := func(ago time.Duration) (from int64) {
		s.all(Options{Ago: ago, Short: func(first int64) { from = first }})
		return from
	}
	gone := write(3 * time.Hour)
	if from := shortOf(10 * time.Hour); from != 0 {
		t.Errorf("nothing is compacted, and it is short from %d on", from)
	}
	last := write(2 * time.Hour)
	s.compact(gone)
	if from := shortOf(time.Hour); from != 0 {
		t.Errorf("what was compacted is from before, and it is short from %d on", from)
	}
	if from := shortOf(10 * time.Hour); from != gone+1 {
		t.Errorf("short from %d on, want %d", from, gone+1)
	}
	s.compact(last)
	if from := shortOf(time.Hour); from != last+1 {
		t.Errorf("with nothing left: short from %d on, want %d", from, last+1)
	}
}

func TestARevisionThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, err := range s.Events(t.Context(), Options{Since: 1 << 40, Follow: true}) {
		var future *FutureError
		if !errors.As(err, &future) || future.Since != 1<<40 {
			t.Errorf("got %v, want a FutureError", err)
		}
	}
}

func TestTimesThatNothingSaysAreEstimated(t *testing.T) {
	var x estimator
	first := []Event{{}, {Time: at}, {}}
	x.estimate(first, time.Time{})
	second := []Event{{}, {Time: at.Add(-time.Minute)}, {}}
	x.estimate(second, time.Time{})
	live := []Event{{}, {Time: at.Add(time.Hour)}, {}}
	x.estimate(live, at.Add(2*time.Hour))
	for i, want := range []time.Time{
		at, at, at, at.Add(-time.Minute), at.Add(-time.Minute), at.Add(-time.Minute),
		at.Add(time.Hour), at.Add(time.Hour), at.Add(2 * time.Hour),
	} {
		got := slices.Concat(first, second, live)[i]
		if !got.Time.Equal(want) || got.Estimated != (i%3 != 1) {
			t.Errorf("event %d: %s, estimated %t, want %s", i, got.Time, got.Estimated, want)
		}
	}
}

// TestALargeHistoryIsTold has more in one answer of etcd's than gRPC takes by itself.
func TestALargeHistoryIsTold(t *testing.T) {
	s := newStage(t)
	const revisions, each = 10, 6
	begin, pad := int64(0), `,"x":"`+strings.Repeat("x", 100<<10)+`"`
	for n := range revisions {
		var edits []edit
		for i := range each {
			edits = append(edits, entry(fmt.Sprintf("r%d-%d", n, i), "source", pad))
		}
		if revision := s.write(edits...); begin == 0 {
			begin = revision
		}
	}
	if got := s.all(Options{Since: begin - 1}); len(got) != revisions*each {
		t.Errorf("got %d events, want %d", len(got), revisions*each)
	}
}

// TestALongHistoryIsReadInParts has more revisions than one answer of etcd's, first only of the app, then also of
// others, and at last again only of the app.
func TestALongHistoryIsReadInParts(t *testing.T) {
	s := newStage(t)
	const writers, each = 16, 260
	begin := s.write(entry("first", "source", ""))
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				key, value := "/other/"+strconv.Itoa(i), "x"
				if i < 200 || i%3 == 0 || i > 240 {
					e := entry(fmt.Sprintf("r%d-%d", w, i), "source", "")
					key, value = e.key, e.value
				}
				if _, err := s.Client.Put(t.Context(), key, value); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	resp, err := s.Client.Get(t.Context(), layout.Shards(), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	got := s.all(Options{Since: begin - 1})
	if len(got) != len(resp.Kvs) {
		t.Fatalf("got %d events, want %d", len(got), len(resp.Kvs))
	}
	for i, kv := range resp.Kvs {
		e := got[i]
		if e.Kind != ResourceAdded || e.Resource != layout.Parse(string(kv.Key)).ID || e.Revision != kv.ModRevision ||
			e.Cursor != kv.ModRevision {
			t.Fatalf("event %d is %+v, want %s at %d", i, e, kv.Key, kv.ModRevision)
		}
	}
}
