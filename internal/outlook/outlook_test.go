package outlook

import (
	"maps"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

const shards = 4

// group makes a view at revision 100 of members with these records, by id. Member a has slot 0, and declines the shards
// that a text names; "": none.
func group(t *testing.T, members map[string]string, declines string, cordoned ...string) *membership.View {
	t.Helper()
	layout := keys.New("/drm", "app")
	kv := func(key, value string, revision int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte(value), CreateRevision: revision, ModRevision: revision, Lease: 7,
		}
	}
	var kvs []*mvccpb.KeyValue
	for i, id := range slices.Sorted(maps.Keys(members)) {
		kvs = append(kvs, kv(layout.Member(id), members[id], int64(i+1)))
	}
	kvs = append(kvs, kv(layout.Slot(0), "a", 9))
	if declines != "" {
		kvs = append(kvs, kv(layout.Decline("a"), `{"shards":"`+declines+`"}`, 10))
	}
	for _, id := range cordoned {
		kvs = append(kvs, kv(layout.Cordon(id), `{"keeps":"1"}`, 11))
	}
	v := membership.NewView(layout.Root(), shards, kvs, 100)
	if len(v.Corrupt) > 0 {
		t.Fatalf("not understood: %v", v.Corrupt)
	}
	return v
}

func TestWhatAViewMeansForAMember(t *testing.T) {
	all := slices.Repeat([]bool{true}, shards)
	none := make([]bool, shards)
	const (
		active  = `{"state":"active","weight":1,"slots":[0],"schema":2}`
		joining = `{"state":"joining","weight":1,"schema":2}`
	)
	joined := Self{ID: "a", Registered: 1, ActiveAt: time.Second, Now: time.Hour, JoinDelay: time.Second}
	for name, tc := range map[string]struct {
		members map[string]string
		self    func(s *Self)
		want    Outlook
		tooOld  bool
	}{
		"it is alone, and owns everything": {
			members: map[string]string{"a": active},
			want:    Outlook{Owned: all, Alone: true},
		},
		"it is not registered": {
			members: map[string]string{"a": active},
			self:    func(s *Self) { s.Registered = 0 },
			want:    Outlook{Owned: none, Alone: true},
		},
		"the view has an earlier registration of it": {
			members: map[string]string{"a": active},
			self:    func(s *Self) { s.Registered = 50 },
			want:    Outlook{Owned: none, Alone: true},
		},
		"the view is older than its registration": {
			members: map[string]string{"a": active},
			self:    func(s *Self) { s.Registered = 101 },
			tooOld:  true,
		},
		"it joins alone, and will own everything": {
			members: map[string]string{"a": joining},
			self:    func(s *Self) { s.ActiveAt = 0 },
			want:    Outlook{Owned: all, Alone: true, Waits: true},
		},
		"it joins beside another one that joins": {
			members: map[string]string{"a": joining, "b": joining},
			self:    func(s *Self) { s.ActiveAt = 0 },
			want:    Outlook{Owned: none, Waits: true},
		},
		"it is new, and another one joins": {
			members: map[string]string{"a": active, "b": joining},
			self:    func(s *Self) { s.Now = s.ActiveAt + 2*s.JoinDelay },
			want:    Outlook{Owned: all, Waits: true, Until: 9 * time.Second},
		},
		"it has waited long enough for another one that joins": {
			members: map[string]string{"a": active, "b": joining},
			self:    func(s *Self) { s.Now = s.ActiveAt + SettleMost(s.JoinDelay) },
			want:    Outlook{Owned: all},
		},
	} {
		t.Run(name, func(t *testing.T) {
			self := joined
			if tc.self != nil {
				tc.self(&self)
			}
			o, ok := Of(group(t, tc.members, ""), self)
			if ok == tc.tooOld {
				t.Fatalf("ok is %v", ok)
			}
			if !slices.Equal(o.Owned, tc.want.Owned) || o.Alone != tc.want.Alone || o.Waits != tc.want.Waits ||
				tc.want.Waits && o.Until != tc.want.Until {
				t.Errorf("got %+v, want %+v", o, tc.want)
			}
		})
	}
}

// What it has declined a moment ago may be another member's already. So may be what it owns only since all declined it:
// another one may have room by now.
func TestAMemberThatStopsKeepsNothingThatItDeclines(t *testing.T) {
	members := map[string]string{"a": `{"state":"active","weight":1,"slots":[0],"schema":2}`}
	v := group(t, members, "2-3")
	if got := v.Owned("a"); !slices.Equal(got, []bool{true, true, true, true}) {
		t.Fatalf("it owns %v, want all, since there is nobody else", got)
	}
	for _, tc := range []struct{ declines, want []bool }{
		{nil, []bool{true, true, false, false}},
		{[]bool{true, false, true, true}, []bool{false, true, false, false}},
		{[]bool{true}, []bool{false, true, false, false}},
	} {
		if got := Keeps(v, "a", tc.declines); !slices.Equal(got, tc.want) {
			t.Errorf("it declines %v, and keeps %v, want %v", tc.declines, got, tc.want)
		}
	}
}

// A cordoned member that is the last one owns what it gives up as soon as another one is there, which may be by now.
func TestACordonedMemberThatStopsKeepsWhatTheCordonLeavesToIt(t *testing.T) {
	members := map[string]string{"a": `{"state":"active","weight":1,"slots":[0],"schema":2}`}
	v := group(t, members, "", "a")
	if got := v.Owned("a"); !slices.Equal(got, []bool{true, true, true, true}) {
		t.Fatalf("it owns %v, want all, since there is nobody else", got)
	}
	if got := Keeps(v, "a", nil); !slices.Equal(got, []bool{false, true, false, false}) {
		t.Errorf("it keeps %v", got)
	}
}
