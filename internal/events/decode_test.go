package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const testShards = 4

var (
	layout = keys.New("/drm", "app")
	at     = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
)

func shardOf(id string) int { return shard.Of(id, testShards) }

// world is what etcd has, so that changes come with what was there before.
type world struct {
	revision int64
	kvs      map[string]*mvccpb.KeyValue
}

func newWorld() *world { return &world{revision: 1, kvs: map[string]*mvccpb.KeyValue{}} }

// edit is one write; an empty value deletes the key.
type edit struct {
	key, value string
	lease      int64
}

// apply makes some writes at the next revision.
func (w *world) apply(edits ...edit) (revision int64, changes []*clientv3.Event) {
	w.revision++
	for _, e := range edits {
		before := w.kvs[e.key]
		kv := &mvccpb.KeyValue{
			Key: []byte(e.key), Value: []byte(e.value), Lease: e.lease, ModRevision: w.revision,
			CreateRevision: w.revision,
		}
		change := &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv, PrevKv: before}
		switch {
		case e.value == "":
			change.Type, change.Kv = clientv3.EventTypeDelete, &mvccpb.KeyValue{Key: kv.Key, ModRevision: w.revision}
			delete(w.kvs, e.key)
		default:
			if before != nil {
				kv.CreateRevision = before.CreateRevision
			}
			w.kvs[e.key] = kv
		}
		changes = append(changes, change)
	}
	return w.revision, changes
}

// words are what a test compares of an event.
func words(e Event) string {
	w := []string{string(e.Kind)}
	add := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" && text != "0" && text != "[]" {
			w = append(w, name+"="+text)
		}
	}
	add("resource", e.Resource)
	add("resources", e.Resources)
	add("count", e.Count)
	add("member", e.Member)
	add("from", e.From)
	add("token", e.Token)
	if e.Weight >= 0 {
		w = append(w, fmt.Sprintf("weight=%d", e.Weight))
	}
	add("by", e.By)
	add("why", e.Why)
	if !e.Until.IsZero() {
		add("until", e.Until.Format(time.TimeOnly))
	}
	if !e.Time.IsZero() {
		add("at", e.Time.Format(time.TimeOnly))
	}
	add("detail", e.Detail)
	return strings.Join(w, " ")
}

// step is the writes of one revision, and the events that they make.
type step struct {
	edits []edit
	want  []string
}

func claim(id, member, state string, since time.Time, message string, lease int64) edit {
	value := claims.NewEncoder(member).Encode(state, since, message)
	return edit{layout.Claim(shardOf(id), id), string(value), lease}
}

func gone(key string) edit { return edit{key: key} }

func entry(id, flags, data string) edit {
	on := func(flag string) bool { return strings.Contains(flags, flag) }
	return edit{key: layout.Resource(shardOf(id), id), value: fmt.Sprintf(
		`{"from_source":%t,"allocated":%t,"own_data":%t,"suspended":%t,"data":{"id":%q%s}}`,
		on("source"), on("allocated"), on("own"), on("suspended"), id, data)}
}

// suspended is an entry that an operator has suspended.
func suspended(id string) edit {
	e := catalogue.Entry{
		FromSource: true, Suspended: true, Suspension: &catalogue.Suspension{By: "me", Why: "broken"},
		Data: []byte(`{"id":"` + id + `","password":"y"}`),
	}
	return edit{key: layout.Resource(shardOf(id), id), value: string(e.Encode())}
}

func memberKey(state membership.State, change func(*membership.Record)) edit {
	r := membership.Record{State: state, Weight: 1}
	if change != nil {
		change(&r)
	}
	return edit{layout.Member("m"), r.Encode(), 7}
}

func steps(s ...step) []step  { return s }
func on(edits ...edit) []edit { return edits }
func summary(id string, through int64) edit {
	s := claims.Summary{Member: "m", Through: through, Within: time.Second}
	return edit{layout.Summary(shardOf(id), 9), string(s.Encode()), 9}
}

func TestWhatChangesOfKeysTell(t *testing.T) {
	later := at.Add(time.Minute)
	claimKey := layout.Claim(shardOf("r"), "r")
	death := claims.Quarantine{Data: "d", At: at, Deaths: []claims.Death{{Member: "m", At: at, Exit: "signal: killed"}}}
	exits := claims.Deaths{}.With(claims.Exit{At: at, Exit: "exit status 2", Leases: []string{"0000000000000009"}})
	killed := claims.Exit{At: later, Exit: "signal: killed"}
	drain := membership.Restriction{Order: membership.Order{By: "ann", Why: "new kernel", Since: at}, Until: later}
	kept := drain
	kept.Keeps = []bool{true, false, true, false}
	seen := map[Kind]bool{}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a claim's life", steps(
			step{
				on(claim("r", "m", claims.Claimed, at, "", 9)),
				[]string{"claimed resource=r member=m token=2 at=04:05:06"},
			},
			step{
				on(claim("r", "m", claims.Claimed, at, "handle has been running", 9)),
				[]string{"slow resource=r member=m token=2 detail=handle has been running"},
			},
			step{
				on(claim("r", "m", claims.Active, later, "", 9)),
				[]string{"active resource=r count=1 member=m token=2 at=04:06:06"},
			},
			step{on(claim("r", "m", claims.Active, later, "", 9)), nil},
			step{
				on(claim("r", "m", claims.Failed, at, "no", 9)),
				[]string{"failed resource=r member=m token=2 at=04:05:06 detail=no"},
			},
			step{
				on(claim("r", "m", claims.Failed, later, "no", 9)),
				[]string{"failed resource=r member=m token=2 at=04:06:06 detail=no"},
			},
			step{
				on(claim("r", "m", claims.Active, at, "", 9)),
				[]string{"recovered resource=r member=m token=2 at=04:05:06"},
			},
			step{
				on(claim("r", "m", claims.Claimed, later, "", 9)),
				[]string{"handling resource=r member=m token=2 at=04:06:06"},
			},
			step{
				on(claim("r", "m", claims.Quarantined, at, "deaths", 9)),
				[]string{"quarantined resource=r member=m token=2 at=04:05:06 detail=deaths"},
			},
			step{
				on(gone(claimKey), edit{key: "/drm/app/alone", value: `{"member":"m","id":"r"}`}),
				[]string{"released resource=r member=m token=2", "isolated resource=r member=m"},
			},
			step{on(gone("/drm/app/alone")), []string{"isolation-ended resource=r member=m"}},
		)},
		{"the end of a lease that only its summary shows", steps(
			step{
				on(claim("r", "m", claims.Claimed, at, "", 9)),
				[]string{"claimed resource=r member=m token=2 at=04:05:06"},
			},
			step{on(summary("r", 2)), []string{"active resource=r count=1 member=m"}},
			step{on(gone(claimKey), gone(summary("r", 2).key)), []string{"lost resource=r member=m token=2"}},
		)},
		{"the end of a lease of a member that has died", steps(
			step{
				on(memberKey(membership.Active, nil)),
				[]string{"member-joined member=m weight=1", "member-active member=m"},
			},
			step{
				on(claim("r", "m", claims.Claimed, at, "", 9)),
				[]string{"claimed resource=r member=m token=3 at=04:05:06"},
			},
			step{on(gone(layout.Member("m"))), []string{"member-died member=m"}},
			step{on(gone(claimKey)), []string{"lost resource=r member=m token=3"}},
		)},
		{"another member's claim over a claim", steps(
			step{on(claim("r", "m", claims.Active, at, "", 9)), []string{
				"claimed resource=r member=m token=2 at=04:05:06",
				"active resource=r count=1 member=m token=2 at=04:05:06",
			}},
			step{
				on(claim("r", "n", claims.Claimed, later, "", 9)),
				[]string{
					"claimed resource=r member=n from=m token=2 at=04:06:06 detail=the claim's key was overwritten",
				},
			},
			step{on(edit{claimKey, "?", 9}), []string{"not-understood resource=r detail=" + claimKey}},
		)},
		{"a summary", steps(
			step{on(claim("a1", "m", claims.Claimed, at, "", 9), claim("r", "m", claims.Failed, at, "no", 9)), []string{
				"claimed resource=a1 member=m token=2 at=04:05:06", "claimed resource=r member=m token=2 at=04:05:06",
				"failed resource=r member=m token=2 at=04:05:06 detail=no",
			}},
			step{on(summary("a1", 2)), []string{"active resource=a1 count=1 member=m"}},
			step{on(summary("a1", 3)), nil},                              // nothing more is active
			step{on(claim("a1", "m", claims.Active, later, "", 9)), nil}, // it was
			step{on(edit{summary("a1", 3).key, "?", 9}), []string{"not-understood detail=" + summary("a1", 3).key}},
		)},
		{"the catalogue", steps(
			step{on(entry("r", "source", "")), []string{"resource-added resource=r by=source"}},
			step{on(entry("r", "source", "")), nil},
			step{on(entry("r", "source", `,"password":"x"`)), []string{"resource-changed resource=r by=source"}},
			step{
				on(entry("r", "source allocated own", `,"password":"y"`)),
				[]string{"resource-changed resource=r by=allocation", "resource-origin resource=r by=both"},
			},
			step{
				on(entry("r", "source suspended", `,"password":"y"`)),
				[]string{"resource-suspended resource=r by=source"},
			},
			step{on(suspended("r")), []string{"suspended resource=r by=me why=broken"}},
			step{on(suspended("r")), nil},
			step{
				on(entry("r", "source suspended", `,"password":"y"`)),
				[]string{"resumed resource=r by=me why=broken", "resource-suspended resource=r by=source"},
			},
			step{on(suspended("r")), []string{"suspended resource=r by=me why=broken"}},
			step{on(entry("r", "source", `,"password":"y"`)), []string{"resumed resource=r by=me why=broken"}},
			step{
				on(entry("r", "source suspended", `,"password":"y"`)),
				[]string{"resource-suspended resource=r by=source"},
			},
			step{on(entry("r", "source", `,"password":"y"`)), []string{"resource-woken resource=r by=source"}},
			step{
				on(edit{layout.Resource(shardOf("r"), "r"), "secret?", 0}),
				[]string{"not-understood resource=r detail=" + layout.Resource(shardOf("r"), "r")},
			},
			step{on(gone(layout.Resource(shardOf("r"), "r"))), []string{"resource-removed resource=r"}},
			step{on(edit{layout.Resource((shardOf("r")+1)%testShards, "r"), "{}", 0}), nil}, // in the wrong shard
		)},
		{"a member", steps(
			step{on(memberKey(membership.Joining, nil)), []string{"member-joined member=m weight=1"}},
			step{on(memberKey(membership.Active, nil)), []string{"member-active member=m"}},
			step{
				on(memberKey(membership.Unready, func(r *membership.Record) { r.Reason = "no disk" })),
				[]string{"member-unready member=m why=no disk"},
			},
			step{on(memberKey(membership.Active, nil)), []string{"member-ready member=m"}},
			step{
				on(memberKey(membership.Active, func(r *membership.Record) { r.Weight = 200 })),
				[]string{"member-changed member=m weight=200 detail=weight 200, was 1"},
			},
			step{on(edit{layout.Decline("m"), `{"shards":"0-2"}`, 7}), []string{"member-full member=m"}},
			step{on(edit{layout.Decline("m"), `{"shards":"0-1"}`, 7}), nil},
			step{on(gone(layout.Decline("m"))), []string{"member-room member=m"}},
			step{
				on(memberKey(membership.Leaving, func(r *membership.Record) { r.Weight = 200 })),
				[]string{"member-leaving member=m"},
			},
			step{on(edit{
				layout.Reservation("m"), membership.Reservation{Since: at, Until: later}.Encode(), 8,
			}), []string{"member-reserved member=m until=04:06:06 at=04:05:06"}},
			step{on(gone(layout.Member("m"))), []string{"member-left member=m"}},
			step{on(gone(layout.Reservation("m"))), []string{"reservation-ended member=m"}},
			step{on(edit{layout.Member("m"), "?", 7}), []string{"not-understood detail=" + layout.Member("m")}},
			step{
				on(edit{layout.Lives("m"), `{"starts":3}`, 7}),
				[]string{"member-flapping count=3 member=m detail=3 starts"},
			},
		)},
		{"the coordinator and the schema", steps(
			step{on(edit{layout.Coordinator(), "m", 7}), []string{"coordinator-elected member=m token=2"}},
			step{
				on(edit{layout.Coordinator(), "n", 7}),
				[]string{"coordinator-lost member=m token=2", "coordinator-elected member=n token=2"},
			},
			step{on(gone(layout.Coordinator())), []string{"coordinator-lost member=n token=2"}},
			step{on(edit{layout.Schema(), `{"schema":2}`, 0}), []string{"schema-raised count=2 detail=schema 2"}},
		)},
		{"placement", steps(
			step{on(edit{layout.Exception(2), membership.Exception{
				Member: "m", Why: membership.WhyJoin, By: "n", Since: at,
			}.Encode(), 0}), []string{"exception-placed member=m by=n why=join at=04:05:06"}},
			step{on(edit{layout.Exception(2), membership.Exception{
				Member: "m", Why: membership.WhyJoin, By: "n", Since: at, Balanced: later,
			}.Encode(), 0}), nil},
			step{on(edit{layout.Exception(2), membership.Exception{
				Member: "o", Why: membership.WhyMove, By: "ann", Since: later, Reason: "hot",
			}.Encode(), 0}), []string{"move-ordered member=o from=m by=ann why=hot at=04:06:06"}},
			step{on(edit{layout.Exception(2), membership.Exception{
				Member: "m", Why: membership.WhyBound, By: "n", Since: at,
			}.Encode(), 0}), []string{
				"move-ended member=o by=ann why=hot", "exception-placed member=m from=o by=n why=bound at=04:05:06",
			}},
			step{on(gone(layout.Exception(2))), []string{"exception-dropped member=m by=n why=bound"}},
			step{
				on(edit{layout.Move("r"), membership.Move{Member: "n", From: "m", Why: "no", Since: at}.Encode(), 0}),
				[]string{"resource-moved resource=r member=n from=m why=no at=04:05:06"},
			},
			step{on(gone(layout.Move("r"))), []string{"resource-move-ended resource=r member=n"}},
		)},
		{"orders", steps(
			step{
				on(edit{layout.Drain("m"), drain.Encode(), 5}),
				[]string{"drained member=m by=ann why=new kernel until=04:06:06 at=04:05:06"},
			},
			step{on(edit{layout.Drain("m"), kept.Encode(), 5}), nil}, // the coordinator notes what the member keeps
			step{on(gone(layout.Drain("m"))), []string{"undrained member=m by=ann why=new kernel until=04:06:06"}},
			step{on(edit{layout.Cordon("m"), "x", 0}), []string{"cordoned member=m"}}, // the key alone is the order
			step{on(gone(layout.Cordon("m"))), []string{"uncordoned member=m"}},
			step{
				on(edit{layout.Weight("m"), membership.WeightOrder{Weight: 0}.Encode(), 0}),
				[]string{"weighed member=m weight=0"},
			},
			step{
				on(edit{layout.Weight("m"), membership.WeightOrder{Weight: 3}.Encode(), 0}),
				[]string{"weighed member=m weight=3 detail=the order was changed"},
			},
			step{on(gone(layout.Weight("m"))), []string{"unweighed member=m weight=3"}},
			step{on(edit{layout.Pin(1), membership.Pin{Member: "m"}.Encode(), 0}), []string{"pinned member=m"}},
			step{on(gone(layout.Pin(1))), []string{"unpinned member=m"}},
			step{
				on(edit{layout.RebalanceOrder(), `{"by":"ann","why":"now","since":"2026-02-03T04:05:06Z"}`, 5}),
				[]string{"rebalance-ordered by=ann why=now at=04:05:06"},
			},
			step{on(gone(layout.RebalanceOrder())), []string{"rebalance-ended by=ann why=now"}},
			step{on(edit{layout.FetchOrder(), "x", 5}), []string{"fetch-ordered"}},
			step{on(gone(layout.FetchOrder())), []string{"fetch-ended"}},
			step{
				on(edit{layout.Retry(shardOf("r"), "r"), `{"by":"me","why":"fixed"}`, 5}),
				[]string{"retry-ordered resource=r by=me why=fixed"},
			},
			step{on(gone(layout.Retry(shardOf("r"), "r"))), []string{"retry-ended resource=r by=me why=fixed"}},
			step{on(edit{layout.AcceptOrder(), `{"digest":"x"}`, 5}), []string{"accept-ordered"}},
			step{on(gone(layout.AcceptOrder())), []string{"accept-ended"}},
		)},
		{"the source", steps(
			step{
				on(edit{layout.Source(), `{"last_success":"2026-02-03T04:05:06Z","last_attempt":"2026-02-03T04:05:06Z",
				"resources":3,"last_change":{"at":"2026-02-03T04:05:06Z","added":3}}`, 0}),
				[]string{"source-changed count=3 at=04:05:06 detail=3 added, 0 changed, 0 removed"},
			},
			step{
				on(edit{layout.Source(), `{"last_success":"2026-02-03T04:06:06Z","last_attempt":"2026-02-03T04:06:06Z",
				"resources":3,"last_change":{"at":"2026-02-03T04:05:06Z","added":3}}`, 0}),
				[]string{"fetched count=3 at=04:06:06 detail=3 resources"},
			},
			step{on(edit{layout.Source(), `{"last_success":"2026-02-03T04:06:06Z","last_attempt":"2026-02-03T04:07:06Z",
				"resources":3,"last_change":{"at":"2026-02-03T04:05:06Z","added":3},"error":"503","held":1,
				"held_removals":{"digest":"x","ids":["r"],"since":"2026-02-03T04:05:06Z"},
				"bad":1,"bad_items":[{"index":4,"id":"","error":"no id"}]}`, 0}), []string{
				"fetch-failed at=04:07:06 detail=503", "removals-held resources=[r] count=1 detail=1 removals",
				"bad-items count=1 detail=1 items; item 4: no id",
			}},
			step{
				on(edit{layout.Source(), `{"last_success":"2026-02-03T04:06:06Z","last_attempt":"2026-02-03T04:07:06Z",
				"resources":3,"last_change":{"at":"2026-02-03T04:05:06Z","added":3},"error":"503",
				"accepted":{"revision":9,"removed":1}}`, 0}),
				[]string{"removals-ended resources=[r] count=1", "removals-accepted count=1 detail=1 removed"},
			},
			step{on(edit{layout.Source(), "?", 0}), []string{"not-understood detail=" + layout.Source()}},
			step{on(gone(layout.Source())), []string{"source-forgotten"}},
		)},
		{"deaths", steps(
			step{
				on(edit{layout.Deaths("m"), string(exits.Encode()), 0}),
				[]string{"death count=1 member=m at=04:05:06 detail=exit status 2"},
			},
			step{
				on(edit{layout.Deaths("m"), string(exits.With(killed).Encode()), 0}),
				[]string{"death member=m at=04:06:06 detail=signal: killed"},
			},
			step{
				on(edit{layout.Quarantine(shardOf("r"), "r"), string(death.Encode()), 0}),
				[]string{"accused resource=r count=1 member=m at=04:05:06 detail=" + death.Text()},
			},
			step{on(gone(layout.Quarantine(shardOf("r"), "r"))), []string{"freed resource=r"}},
		)},
		{"the app", steps(
			step{
				on(edit{layout.Config(), `{"schema":1,"shards":4}`, 0}),
				[]string{"app-created count=4 detail=4 shards"},
			},
			step{on(edit{layout.Reshard(), "{}", 0}, gone(layout.Config())), []string{"reshard-begun", "app-deleted"}},
			step{on(edit{layout.Config(), `{"schema":2,"reshard":{"from":4,"to":8}}`, 0}), nil},
			step{on(gone(layout.Reshard())), []string{"reshard-ended"}},
			step{
				on(edit{layout.Reshard(), `{"from":4,"to":8}`, 0}),
				[]string{"reshard-begun detail=from 4 to 8 shards"},
			},
			step{on(gone(layout.Reshard())), []string{"reshard-ended detail=from 4 to 8 shards"}},
			step{
				on(edit{layout.Reshard(), `{"task":"load","run":"1"}`, 0}),
				[]string{"reshard-begun detail=load from a dump"},
			},
			step{on(gone(layout.Reshard())), []string{"reshard-ended detail=load from a dump"}},
			step{
				on(edit{layout.Reshard(), `{"task":"delete","run":"1"}`, 0}),
				[]string{"reshard-begun detail=deletion of the app"},
			},
			step{on(gone(layout.Reshard())), []string{"reshard-ended detail=deletion of the app"}},
			step{on(edit{layout.Root() + "else", "x", 0}), []string{"not-understood detail=/drm/app/else"}},
			step{on(edit{layout.Stats("m"), "x", 0}, edit{layout.Load("m"), "x", 0}), nil},
			step{on(edit{layout.Slot(0), "m", 0}), nil},
		)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, d := newWorld(), NewDecoder(layout, testShards, 2, nil)
			for i, s := range tt.steps {
				var got []string
				for _, e := range d.Decode(w.apply(s.edits...)) {
					got = append(got, words(e))
					seen[e.Kind] = true
					if e.Revision != w.revision || e.Shard >= testShards {
						t.Errorf("step %d: %+v at revision %d", i, e, w.revision)
					}
				}
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
	for _, k := range Kinds() {
		if !seen[k] && !slices.Contains([]Kind{Gap, Listed, ListEnd}, k) {
			t.Errorf("no change here makes the event %s", k)
		}
	}
}

// answers is an Oracle with ready answers.
type answers struct {
	state LeaseState
	plain []string
	known bool
}

func (a answers) Lease(int64, int64) LeaseState { return a.state }

func (a answers) Through(int, int64, int64) int64 { return 0 }

func (a answers) Plain(_ int, _, _, _, _ int64, add func(string)) bool {
	for _, id := range a.plain {
		add(id)
	}
	return a.known
}

func TestAReleaseAndTheEndOfALeaseAreToldApart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		state LeaseState
		live  bool
		leave bool
		want  Kind
		sure  bool
	}{
		{"the lease lives", LeaseLives, true, false, Released, true},
		{"the lease has just ended", LeaseEnded, true, false, Lost, true},
		{"the member leaves, and has revoked its lease", LeaseEnded, true, true, Released, true},
		{"the lease has ended by now", LeaseEnded, false, false, Released, false},
		{"etcd does not say", LeaseUnknown, true, false, Released, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, d := newWorld(), NewDecoder(layout, testShards, 2, answers{state: tt.state})
			d.live = tt.live
			d.Decode(w.apply(claim("r", "m", claims.Claimed, at, "", 9)))
			if tt.leave {
				d.Decode(w.apply(memberKey(membership.Leaving, nil)))
			}
			got := d.Decode(w.apply(gone(layout.Claim(shardOf("r"), "r"))))
			if len(got) != 1 || got[0].Kind != tt.want || got[0].unsure == tt.sure {
				t.Errorf("got %+v, want %s, sure %t", got, tt.want, tt.sure)
			}
		})
	}
}

func TestWhatComesLaterTellsAReleaseAndTheEndOfALeaseApart(t *testing.T) {
	released := Event{Kind: Released, Revision: 5, Resource: "r", Member: "m", lease: 9, unsure: true}
	for _, tt := range []struct {
		name          string
		before, after []Event
		want          Kind
		unsure        bool
	}{
		{"nothing comes", nil, nil, Released, true},
		{
			"the lease is used again", nil,
			[]Event{{Kind: Claimed, Revision: 6, Resource: "s", lease: 9}},
			Released, false,
		},
		{"it is used at once", nil, []Event{{Kind: Released, Revision: 5, Resource: "s", lease: 9}}, Released, true},
		{"its member dies", nil, []Event{{Kind: MemberDied, Revision: 6, Member: "m"}}, Lost, false},
		{"another member dies", nil, []Event{{Kind: MemberDied, Revision: 6, Member: "n"}}, Released, true},
		{
			"its member dies after the resource has gone elsewhere", nil,
			[]Event{
				{Kind: Claimed, Revision: 6, Resource: "r", lease: 8}, {Kind: MemberDied, Revision: 7, Member: "m"},
			},
			Released, true,
		},
		{
			"nobody wants it any more",
			[]Event{{Kind: ResourceRemoved, Revision: 4, Resource: "r"}},
			nil,
			Released, false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := append(append(slices.Clone(tt.before), released), tt.after...)
			settle(all)
			got := all[len(tt.before)]
			if got.Kind != tt.want || (got.Detail != "") != tt.unsure {
				t.Errorf("got %+v, want %s, unsure %t", got, tt.want, tt.unsure)
			}
		})
	}
}

func TestASummaryMakesManyActiveWhoeverHasSeenTheirClaims(t *testing.T) {
	var ids []string
	for i := 0; len(ids) < mostIDs+1; i++ {
		if id := fmt.Sprintf("r%05d", i); shardOf(id) == 0 {
			ids = append(ids, id)
		}
	}
	w, d := newWorld(), NewDecoder(layout, testShards, 50, answers{plain: ids[:1], known: true})
	w.revision = 60
	for _, id := range ids[1:] {
		d.Decode(w.apply(claim(id, "m", claims.Claimed, at, "", 9)))
	}
	got := d.Decode(w.apply(summary(ids[0], w.revision)))
	if len(got) != 2 || got[0].Count != mostIDs || len(got[0].Resources) != mostIDs ||
		got[1].Resource != ids[mostIDs] || got[1].Count != 1 {
		t.Fatalf("got %d events: %+v", len(got), got)
	}
	if !slices.Equal(got[0].Resources, ids[:mostIDs]) || d.plain != 0 {
		t.Errorf("resources %v, and %d are kept", got[0].Resources, d.plain)
	}

	w.apply(claim(ids[0], "m", claims.Claimed, at, "", 9))
	d = NewDecoder(layout, testShards, w.revision+1, answers{})
	got = d.Decode(w.apply(summary(ids[0], w.revision)))
	if len(got) != 1 || got[0].Count != 0 || got[0].Detail == "" {
		t.Errorf("where etcd does not know any more: %+v, want an event that says so", got)
	}
}

func TestOfTooManyClaimsOnlyTheNumberIsKept(t *testing.T) {
	w, d := newWorld(), NewDecoder(layout, testShards, 2, nil)
	d.plain = mostPlain - 1
	d.Decode(w.apply(claim("a1", "m", claims.Claimed, at, "", 9)))
	other := "b"
	for shardOf(other) != shardOf("a1") {
		other += "b"
	}
	d.Decode(w.apply(claim(other, "m", claims.Claimed, at, "", 9)))
	got := d.Decode(w.apply(summary("a1", w.revision)))
	if len(got) != 2 || got[0].Resource != "a1" || got[1].Count != 1 || got[1].Resource != "" ||
		len(got[1].Resources) != 0 {
		t.Errorf("got %+v, want one with its id, and one without", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, kind := range []string{
		"config", "source", "group/members/m", "group/drains/m", "group/pins/0001",
		"group/placement/0001", "group/moves/r", "group/coordinator", "group/schema", "group/weights/m", "alone",
		"deaths/m", "lives/m", "orders/rebalance", "shards/0000/active/0000000000000009", "group/reservations/m",
	} {
		f.Add(kind, `{"member":"m","weight":1,"state":"active","schema":2,"through":3}`, "{}", int64(9))
	}
	f.Add("shards/0000/claims/r", `{"member":"m","state":"failed"}`, `{"member":"n","state":"active"}`, int64(9))
	f.Add("shards/0000/resources/r", `{"data":{"id":"r"}}`, `?`, int64(0))
	f.Fuzz(func(t *testing.T, key, first, second string, lease int64) {
		w, d := newWorld(), NewDecoder(layout, testShards, 2, nil)
		for _, value := range []string{first, second, "", first, ""} {
			for _, e := range d.Decode(w.apply(edit{layout.Root() + key, value, lease})) {
				if e.Kind == "" {
					t.Errorf("%+v has no kind", e)
				}
			}
		}
		if d.plain != 0 && len(d.bundles) == 0 {
			t.Errorf("%d ids are kept in no bundle", d.plain)
		}
	})
}
