package picture_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// store is an etcd with an app of 8 shards, whose keys a test writes.
type store struct {
	t      *testing.T
	client *clientv3.Client
	layout keys.Layout
	reader *picture.Reader
}

func newStore(t *testing.T) *store {
	client := embeddedtest.Client(t, embeddedtest.Server(t).Endpoint())
	layout := keys.New("/drm", "app")
	return &store{t, client, layout, &picture.Reader{
		Client: client, Layout: layout, Shards: 8, Timeout: time.Minute,
	}}
}

// put writes a key, and returns the revision.
func (s *store) put(key, value string, lease int64) int64 {
	s.t.Helper()
	resp, err := s.client.Put(s.t.Context(), key, value, clientv3.WithLease(clientv3.LeaseID(lease)))
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (s *store) grant(ttl int64) int64 {
	s.t.Helper()
	resp, err := s.client.Grant(s.t.Context(), ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	return int64(resp.ID)
}

// member writes the keys of an active member with one slot, and returns its lease.
func (s *store) member(id string, slot int) int64 {
	s.t.Helper()
	lease := s.grant(600)
	s.put(s.layout.Slot(slot), id, 0)
	s.put(s.layout.Member(id), membership.Record{State: membership.Joining, Weight: 1, Schema: 2}.Encode(), lease)
	s.put(s.layout.Member(id), membership.Record{
		State: membership.Active, Weight: 1, Slots: []int{slot}, Schema: 2, Labels: map[string]string{"zone": "a"},
	}.Encode(), lease)
	return lease
}

func entry(id string, suspended bool) string {
	return fmt.Sprintf(`{"from_source":true,"allocated":false,"own_data":false,"suspended":%t,"data":{"id":%q}}`,
		suspended, id)
}

func claim(member, state string) string {
	return string(claims.NewEncoder(member).Encode(state, time.Unix(0, 0), ""))
}

// inShard returns ids of resources in one shard.
func inShard(n, count int) []string {
	var ids []string
	for i := 0; len(ids) < count; i++ {
		if id := fmt.Sprint("r", i); shard.Of(id, 8) == n {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestDescribeShardCountsWhatIsInIt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, b := s.member("a", 0), s.member("b", 1)
	const n = 5
	ids := inShard(n, 8)
	s.put(s.layout.Pin(n), membership.Pin{Member: "a", Order: membership.Order{By: "ann"}}.Encode(), 0)
	for i, id := range ids[:6] {
		s.put(s.layout.Resource(n, id), entry(id, i == 5), 0)
	}
	s.put(s.layout.Claim(n, ids[0]), claim("a", claims.Claimed), a)
	s.put(s.layout.Claim(n, ids[1]), claim("a", claims.Failed), a)
	s.put(s.layout.Claim(n, ids[2]), claim("b", claims.Active), b)            // misplaced
	through := s.put(s.layout.Claim(n, ids[6]), claim("b", claims.Active), b) // an orphan
	s.put(s.layout.Claim(n, ids[5]), claim("a", claims.Active), a)            // suspended, so an orphan too
	summary := claims.Summary{Member: "a", Through: through, Within: time.Second}
	s.put(s.layout.Summary(n, a), string(summary.Encode()), a)
	s.put(s.layout.Trail(n, a), string(claims.Trail{Member: "a", IDs: ids[:2], Returned: 1}.Encode()), 0)
	s.put(s.layout.Quarantine(n, ids[3]),
		string(claims.Quarantine{Deaths: []claims.Death{{Member: "x"}}}.Encode()), 0)
	s.put(s.layout.Move(ids[4]), membership.Move{Member: "b", From: "a"}.Encode(), 0)
	s.put(s.layout.Shard(n)+"other", "?", 0)

	got, err := s.reader.DescribeShard(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	want := picture.ShardDetail{
		Wanted: 5, Suspended: 1, Misplaced: 1, Orphans: 2, BadKeys: 1, Quarantine: []string{ids[3]},
		States: map[string]int{
			claims.Active: 2, claims.Failed: 1, picture.StateUnassigned: 2, // a summary makes the first one active
		},
		Claims: []picture.Bundle{
			{
				Member: "a", Lease: a, Through: through, Within: time.Second,
				States: map[string]int{claims.Active: 2, claims.Failed: 1},
			},
			{Member: "b", Lease: b, States: map[string]int{claims.Active: 2}},
		},
		Moved:  []picture.Moved{{Resource: ids[4], Member: "b", From: "a", InForce: true}},
		Trails: []picture.Trail{{Shard: n, Lease: a, Member: "a", IDs: ids[:2], Returned: 1}},
	}
	for _, id := range ids[:6] {
		want.Bytes += int64(len(`{"id":""}`) + len(id))
	}
	ignore := cmpopts.IgnoreFields(picture.ShardDetail{}, "Revision", "Trace", "Rulings", "Members", "Changes")
	if diff := cmp.Diff(want, got, ignore, cmpopts.IgnoreTypes(picture.Versions{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Trace.Owner != "a" || len(got.Rulings) != 1 || got.Rulings[0].By != "ann" || !got.Rulings[0].InForce ||
		len(got.Members) != 2 {
		t.Errorf("%+v", got)
	}
	if len(got.Changes) != 10 || got.Changes[0].Kind != "quarantine" || got.Changes[0].ID != ids[3] ||
		!slices.IsSortedFunc(got.Changes, func(a, b picture.KeyChange) int { return int(b.Modified - a.Modified) }) {
		t.Errorf("the last changes are %+v", got.Changes)
	}
}

func TestDescribeMemberTellsOfTheLivingAndTheDead(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := s.reader.DescribeMember(t.Context(), "a"); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	a := s.member("a", 0)
	s.put(s.layout.Stats("a"), string(claims.Figures{Claims: 3, Active: 2, Stuck: 1}.Encode()), a)
	s.put(s.layout.Load("a"), string(claims.Loads{Shards: map[int]int64{1: 1500, 2: 500}, Pending: 7}.Encode()), a)
	s.put(s.layout.Lives("a"), claims.Lives{Starts: 3}.Encode(), 0)
	s.put(s.layout.Alone(), string(claims.Alone{Member: "a", ID: "suspect"}.Encode()), a)
	s.put(s.layout.Cordon("a"), membership.Restriction{Order: membership.Order{By: "ann", Why: "slow"}}.Encode(), 0)
	s.put(s.layout.Pin(3), membership.Pin{Member: "a"}.Encode(), 0)
	s.put(s.layout.Exception(4), membership.Exception{Member: "a", Why: "bound"}.Encode(), 0)
	s.put(s.layout.Coordinator(), "a", a)
	d, err := s.reader.DescribeMember(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if !d.Live || d.State != "active" || d.Lease.TTL != 600*time.Second || d.Lease.Left < time.Second || !d.Leads ||
		d.Labels["zone"] != "a" || d.Schema != 2 || d.Writes != 2 || d.Figures.Claims != 3 || d.Resources != 3 ||
		d.Load.Total != 2000 || d.Load.Pending != 7 || d.Lives.Starts != 3 || d.Alone != "suspect" || d.PlacedAt != 1 ||
		!slices.Equal(d.PinnedTo, []int{3}) || !slices.Equal(d.Owned, []picture.ShardRange{{First: 0, Last: 7}}) {
		t.Errorf("%+v", d)
	}
	if len(d.Orders) != 2 || d.Orders[0].Kind != picture.OrderCordon || d.Orders[0].By != "ann" {
		t.Errorf("orders %+v", d.Orders)
	}
	if len(d.Past) != 2 || d.Past[0].Text != "active; slots: 1" || d.Past[1].Text != "joining; slots: 0" {
		t.Errorf("past %+v", d.Past)
	}

	// What is known of one that has died.
	x := s.grant(600)
	s.put(s.layout.Deaths("x"), string(claims.Deaths{Deaths: []claims.Exit{{Exit: "signal: killed"}}}.Encode()), 0)
	id := inShard(6, 1)[0]
	s.put(s.layout.Trail(6, x), string(claims.Trail{Member: "x", IDs: []string{id}}.Encode()), 0)
	s.put(s.layout.Quarantine(6, id), string(claims.Quarantine{
		Deaths: []claims.Death{{Member: "y"}, {Member: "x", Exit: "signal: killed"}},
	}.Encode()), 0)
	reserved := s.grant(3600)
	s.put(s.layout.Reservation("x"), membership.Reservation{Keeps: []bool{true, true}}.Encode(), reserved)
	s.put(s.layout.Slot(1), "x", 0)
	d, err = s.reader.DescribeMember(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if d.Live || d.State != picture.StateAbsent || d.Lease.ID != 0 || len(d.Exits) != 1 || d.Writes != 0 ||
		len(d.Trails) != 1 || d.Trails[0].Lease != x || !slices.Equal(d.Trails[0].IDs, []string{id}) ||
		!slices.Equal(d.Slots, []int{1}) || len(d.Past) != 0 || d.Figures != nil {
		t.Errorf("%+v", d)
	}
	if len(d.Accused) != 1 || d.Accused[0].Resource != id || d.Accused[0].Exit != "signal: killed" {
		t.Errorf("accused %+v", d.Accused)
	}
	if r := d.Reservation; r == nil || !r.InForce || r.Lease.TTL != time.Hour ||
		!slices.Equal(r.Keeps, []picture.ShardRange{{First: 0, Last: 1}}) {
		t.Errorf("reservation %+v", r)
	}
}

func TestDescribeResourceTellsWhatItsKeysHaveSaid(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	created := s.put(s.layout.Config(), "x", 0)
	a := s.member("a", 0)
	id := inShard(2, 1)[0]
	if _, err := s.reader.DescribeResource(t.Context(), id, created); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	s.put(s.layout.Resource(2, id), entry(id, true), 0)
	for range 9 {
		s.put(s.layout.Resource(2, id), entry(id, false), 0)
	}
	s.put(s.layout.Claim(2, id), claim("a", claims.Claimed), a)
	first := s.put(s.layout.Claim(2, id), "?", a)
	s.put(s.layout.Claim(2, id), claim("a", claims.Active), a)
	d, err := s.reader.DescribeResource(t.Context(), id, created)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, p := range d.Claims {
		said = append(said, p.Text)
	}
	if got := strings.Join(said, ", "); got != "active at a, not understood, claimed at a" {
		t.Errorf("the claim has said: %s", got)
	}
	if len(d.Entries) != 6 || !d.Fine || d.Entry.Writes != 10 || !strings.HasPrefix(d.Entries[0].Text, "source, ") {
		t.Errorf("%+v", d)
	}
	if _, err := s.client.Compact(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if d, err = s.reader.DescribeResource(t.Context(), id, created); err != nil || len(d.Claims) != 2 {
		t.Errorf("compacted: %+v, %v", d.Claims, err)
	}
}
