package picture

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/membership"
)

// health makes a Health of a group in which the members a and b were last changed at revision 5, and which has these
// keys, too.
func health(figures, loads map[string]string, more ...*mvccpb.KeyValue) *Health {
	group := []*mvccpb.KeyValue{
		key(layout.Member("a"), `{"state":"active","weight":1,"slots":[0],"schema":2}`, 1, 0x70), slotKey("a"),
		key(layout.Member("b"), `{"state":"active","weight":1,"slots":[1],"schema":2}`, 1, 0x71), slotKey("b"),
		key(layout.Coordinator(), "a", 5, 0x70),
	}
	group = append(group, more...)
	found := [][]*mvccpb.KeyValue{group, nil, nil}
	for id, value := range figures {
		found[1] = append(found[1], key(layout.Stats(id), value, 9, 0x70))
	}
	for id, value := range loads {
		found[2] = append(found[2], key(layout.Load(id), value, 9, 0x70))
	}
	return healthOf(layout, membership.NewView(layout.Root(), testShards, group, 9), found)
}

func TestAMemberIsBehindIfItDoesNotKnowTheNewestChange(t *testing.T) {
	const at = "2026-01-02T03:04:05Z"
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, a, b string
		behind     int64 // of b
		since      time.Time
	}{
		{name: "no figures"},
		{name: "of an older version", a: `{"view":5,"view_at":"` + at + `"}`, b: `{"shards":8}`},
		{name: "up to date", a: `{"view":5,"view_at":"` + at + `"}`, b: `{"view":5}`},
		{name: "another has only listed the group anew", a: `{"view":8,"view_at":"` + at + `"}`, b: `{"view":5}`},
		{name: "behind", a: `{"view":5,"view_at":"` + at + `"}`, b: `{"view":4}`, behind: 1, since: when},
		{name: "behind, nobody knows since when", a: `{"view":4,"view_at":"` + at + `"}`, b: `{"view":3}`, behind: 2},
		{name: "not understood", a: `{"view":5,"view_at":"` + at + `"}`, b: `{"view":-1}`},
	} {
		figures := map[string]string{}
		if tt.a != "" {
			figures["a"] = tt.a
		}
		if tt.b != "" {
			figures["b"] = tt.b
		}
		b := health(figures, nil).Members[1]
		if b.ID != "b" || b.Behind != tt.behind || !b.BehindSince.Equal(tt.since) {
			t.Errorf("%s: %+v", tt.name, b)
		}
	}
}

func TestOnlyALoadThatAMoveWouldMendIsUneven(t *testing.T) {
	balanced := map[string]string{"a": `{"view":9}`}
	all := func(weight int) string {
		text := ""
		for n := range testShards {
			text += fmt.Sprintf(`,"%d":%d`, n, weight)
		}
		return `{"shards":{` + text[1:] + `}}`
	}
	for _, tt := range []struct {
		name           string
		figures, loads map[string]string
		want           int
	}{
		{"nobody says a load", balanced, nil, 0},
		{"a has nearly everything", balanced, map[string]string{"a": all(1000), "b": all(1)}, 1},
		{
			"without balance",
			map[string]string{"a": `{"view":9,"no_balance":true}`},
			map[string]string{"a": all(1000), "b": all(1)},
			0,
		},
		{
			"with a coordinator of an older version",
			map[string]string{"a": `{}`},
			map[string]string{"a": all(1000), "b": all(1)},
			0,
		},
		{
			"one shard has everything", balanced,
			map[string]string{"a": `{"shards":{"0":9000}}`, "b": `{"shards":{"0":9000}}`},
			0,
		},
	} {
		if got := health(tt.figures, tt.loads).Uneven(); len(got) != tt.want || tt.want == 1 && got[0].Member != "a" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	uneven := map[string]string{"a": all(1000), "b": all(1)}
	for _, kv := range []*mvccpb.KeyValue{
		key(layout.Slot(7), "gone", 1, 0), key(layout.Block(40), `{"member":"gone","slots":40,"used":40}`, 1, 0),
	} {
		if got := health(balanced, uneven, kv).Uneven(); len(got) != 0 {
			t.Errorf("%s: %+v, though a member may have gone a moment ago", kv.Key, got)
		}
	}
	if got := health(balanced, uneven, key(layout.Slot(7), "", 1, 0)).Uneven(); len(got) != 1 {
		t.Errorf("a slot that is free: %+v", got)
	}
}

func TestAStatusNamesTheFirstOfEachKind(t *testing.T) {
	var all []Named
	for _, id := range []string{"d", "b", "e", "a", "c"} {
		name(&all, id, "why "+id)
	}
	if got := fmt.Sprint(all); got != "[{a why a} {b why b} {c why c}]" {
		t.Errorf("got %s", got)
	}
}
