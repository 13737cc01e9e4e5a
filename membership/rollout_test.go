package membership_test

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/membership"
)

func TestARolloutIsOnWhileMembersOfTwoVersionsLive(t *testing.T) {
	type member struct {
		state   membership.State
		version string
	}
	const (
		active, joining  = membership.Active, membership.Joining
		unready, leaving = membership.Unready, membership.Leaving
	)
	for name, tt := range map[string]struct {
		members []member // in the order in which they have registered
		newer   string
		on      bool
	}{
		"nobody":                          {},
		"one":                             {members: []member{{active, "v1"}}},
		"all the same":                    {members: []member{{active, "v1"}, {unready, "v1"}, {joining, "v1"}}},
		"the last is newer":               {[]member{{active, "v1"}, {active, "v2"}}, "v2", true},
		"one that joins counts":           {[]member{{active, "v1"}, {joining, "v2"}}, "v2", true},
		"one that is not ready counts":    {[]member{{unready, "v1"}, {active, "v2"}}, "v2", true},
		"one that leaves does not":        {members: []member{{leaving, "v1"}, {active, "v2"}}},
		"nor if it is the last":           {members: []member{{active, "v1"}, {leaving, "v2"}}},
		"back to what was before":         {[]member{{active, "v2"}, {active, "v1"}}, "v1", true},
		"no version is a version":         {[]member{{active, "v1"}, {active, ""}}, "", true},
		"and so it is if it is the older": {[]member{{active, ""}, {active, "v1"}}, "v1", true},
		"three versions":                  {[]member{{active, "v1"}, {active, "v3"}, {active, "v2"}}, "v2", true},
	} {
		t.Run(name, func(t *testing.T) {
			var kvs []*mvccpb.KeyValue
			for i, m := range tt.members {
				value := fmt.Sprintf(`{"state":%q,"weight":1,"slots":[],"version":%q}`, m.state, m.version)
				kvs = append(kvs, &mvccpb.KeyValue{
					Key: []byte(layout.Member(fmt.Sprint(9 - i))), Value: []byte(value), CreateRevision: int64(10 + i),
				})
			}
			v := membership.NewView(layout.Root(), shards, kvs, 99)
			if newer, on := v.Rollout(); newer != tt.newer || on != tt.on {
				t.Errorf("Rollout() = %q, %v, want %q, %v", newer, on, tt.newer, tt.on)
			}
		})
	}
}

func TestWhoShouldLeaveAFreeOfficeToAnother(t *testing.T) {
	put := func(p picture, id string, state membership.State, version string, source bool) {
		p[layout.Member(id)] = fmt.Sprintf(`{"state":%q,"weight":1,"slots":[],"version":%q,"source":%v}`,
			state, version, source)
	}
	at := func(p picture, id string) bool {
		kvs := p.kvs()
		for i, kv := range kvs { // in the order of their ids
			kv.CreateRevision = int64(i + 1)
		}
		return membership.NewView(layout.Root(), shards, kvs, 99).BetterCoordinator(id)
	}
	p := picture{}
	put(p, "a", membership.Active, "1", true)
	put(p, "b", membership.Active, "2", true)
	if !at(p, "a") || at(p, "b") {
		t.Errorf("of the older version: %v, of the newer: %v", at(p, "a"), at(p, "b"))
	}
	put(p, "b", membership.Active, "2", false)
	if at(p, "a") {
		t.Error("one with a source leaves the office to one without")
	}
	put(p, "b", membership.Active, "1", true)
	put(p, "a", membership.Unready, "1", true)
	if !at(p, "a") || at(p, "b") {
		t.Errorf("unready: %v, ready: %v", at(p, "a"), at(p, "b"))
	}
}
