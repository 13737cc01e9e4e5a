package picture

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// factsOf makes the facts about the resource r of keys. change may set what is not in these keys.
func factsOf(change func(*facts), kvs ...*mvccpb.KeyValue) *facts {
	f := newFacts("r", shardOf("r"))
	var group, entry, quarantine, claimed []*mvccpb.KeyValue
	p := of(kvs...)
	f.view = p.view
	for _, kv := range kvs {
		switch k := layout.Parse(string(kv.Key)); {
		case strings.HasPrefix(string(kv.Key), layout.Group()):
			group = append(group, kv)
		case k.Kind == keys.Resource:
			entry = append(entry, kv)
		case k.Kind == keys.Quarantine:
			quarantine = append(quarantine, kv)
		case k.Kind == keys.Claim:
			claimed = append(claimed, kv)
		}
	}
	f.takeKeys(p, entry, quarantine, claimed)
	f.takePlace(group, layout)
	if change != nil {
		change(f)
	}
	f.explain()
	return f
}

// two is a group of two members, a and b, with a pin that gives the shard of r to a.
func two(more ...*mvccpb.KeyValue) []*mvccpb.KeyValue {
	pin := key(layout.Pin(shardOf("r")), membership.Pin{Member: "a"}.Encode(), 4, 0)
	return append([]*mvccpb.KeyValue{
		newMember("a", "active", 0x70), slotKey("a"), newMember("b", "active", 0x71), slotKey("b"), pin,
	}, more...)
}

// newMember is the key of a member that knows the newest schema.
func newMember(id, state string, lease int64) *mvccpb.KeyValue {
	kv := memberKey(id, state, lease)
	kv.Value = []byte(strings.TrimSuffix(string(kv.Value), "}") + `,"schema":2}`)
	return kv
}

func without(kvs []*mvccpb.KeyValue, name string) []*mvccpb.KeyValue {
	return slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == name })
}

func left(d time.Duration) Lease { return Lease{ID: 0x70, Known: true, TTL: time.Minute, Left: d} }

func failedClaim(message string) *mvccpb.KeyValue {
	kv := claimKey("r", "a", claims.Failed, 5, 0x70)
	kv.Value = claims.NewEncoder("a").Encode(claims.Failed, time.Time{}, message)
	return kv
}

func TestReasons(t *testing.T) {
	entry := entryKey("r", false)
	n := shardOf("r")
	reservation := key(layout.Reservation("a"), membership.Reservation{}.Encode(), 6, 0x99)
	everyShard := make([]bool, testShards)
	for i := range everyShard {
		everyShard[i] = true
	}
	declines := func(id string, lease int64) *mvccpb.KeyValue {
		return key(layout.Decline(id), `{"shards":"0-15"}`, 6, lease)
	}
	for _, tt := range []struct {
		name   string
		keys   []*mvccpb.KeyValue
		change func(*facts)
		fine   bool
		codes  []string // those that hinder
		notes  []string // those that do not
		text   []string // parts of the texts, waits and remedies
	}{
		{
			name: "handled", keys: two(entry, claimKey("r", "a", claims.Active, 5, 0x70)), fine: true,
			notes: []string{ReasonPinned},
		},
		{
			name: "not in the catalogue", keys: two(), fine: true,
			notes: []string{ReasonPinned, ReasonNotInCatalogue}, text: []string{"`drmctl allocate --id r`"},
		},
		{
			name: "a bad item", keys: two(), fine: true,
			change: func(f *facts) { f.source.BadItems = []record.BadItem{{Index: 3, ID: "r", Error: "no object"}} },
			notes:  []string{ReasonPinned, ReasonBadItem}, text: []string{"item 3", "no object"},
		},
		{
			name: "too large", keys: two(), fine: true,
			change: func(f *facts) { f.source.Rejected = []string{"r"} }, notes: []string{ReasonPinned, ReasonTooLarge},
		},
		{
			name: "suspended", keys: two(entryKey("r", true)), fine: true,
			notes: []string{ReasonPinned, ReasonSuspended},
		},
		{
			name: "suspended by an operator", keys: two(suspendedEntry("r")), fine: true,
			notes: []string{ReasonPinned, ReasonSuspended},
			text:  []string{"suspended by ann", ": it floods"},
		},
		{
			name:  "suspended, and still claimed",
			keys:  two(entryKey("r", true), claimKey("r", "a", claims.Active, 5, 0x70)),
			codes: []string{ReasonHandover}, notes: []string{ReasonPinned, ReasonSuspended},
			text: []string{"a has it, and must terminate it since it is not wanted any more"},
		},
		{
			name: "an entry that is not understood", keys: two(key(entry2, "?", 3, 0)),
			codes: []string{ReasonEntryNotUnderstood}, notes: []string{ReasonPinned},
		},
		{
			name:  "a claim that is not understood",
			keys:  two(entry, key(layout.Claim(n, "r"), "?", 3, 0x70)),
			codes: []string{ReasonClaimNotUnderstood}, notes: []string{ReasonPinned},
		},
		{
			name: "no config", keys: two(entry, claimKey("r", "a", claims.Active, 5, 0x70)),
			change: func(f *facts) { f.gone = true }, codes: []string{ReasonNoConfig}, notes: []string{ReasonPinned},
		},
		{name: "no member", keys: []*mvccpb.KeyValue{entry}, codes: []string{ReasonNoMember}},
		{
			name: "nobody has joined", keys: []*mvccpb.KeyValue{entry, newMember("a", "joining", 0x70), slotKey("a")},
			codes: []string{ReasonNobodyActive}, text: []string{"a is joining"},
		},
		{
			name: "all are drained by force",
			keys: two(entry, key(layout.Drain("a"), `{"force":true,"by":"ops","why":"move"}`, 6, 0),
				key(layout.Drain("b"), `{}`, 6, 0)),
			codes: []string{ReasonNobodyTakes}, notes: []string{ReasonPinNotInForce},
			text: []string{
				"a is drained", "b is drained", "`drmctl undrain a`, or `drmctl undrain b`, or start a member",
			},
		},
		{
			name: "all are drained, which is ignored",
			keys: two(entry, key(layout.Drain("a"), `{}`, 6, 0), key(layout.Drain("b"), `{}`, 6, 0),
				claimKey("r", "a", claims.Active, 5, 0x70)),
			fine: true, notes: []string{ReasonPinned, ReasonDrainsIgnored}, text: []string{"`drmctl undrain a`"},
		},
		{
			name: "all have the weight 0",
			keys: two(entry, key(layout.Weight("a"), membership.WeightOrder{}.Encode(), 6, 0),
				key(layout.Weight("b"), membership.WeightOrder{}.Encode(), 6, 0)),
			codes: []string{ReasonNobodyTakes}, notes: []string{ReasonPinNotInForce},
			text: []string{"`drmctl weight --reset a`"},
		},
		{
			name: "drained, and paced",
			keys: two(entry, key(layout.Coordinator(), "b", 6, 0x71), claimKey("r", "a", claims.Active, 5, 0x70),
				key(layout.Drain("a"), membership.Restriction{Keeps: everyShard}.Encode(), 6, 0)),
			fine: true, notes: []string{ReasonPinned, ReasonKept}, text: []string{"`drmctl drain --at-once a`"},
		},
		{
			name:  "drained, and still claimed",
			keys:  two(entry, claimKey("r", "a", claims.Active, 5, 0x70), key(layout.Drain("a"), `{}`, 6, 0)),
			codes: []string{ReasonHandover}, notes: []string{ReasonPinNotInForce},
			text: []string{
				"a has it, which is drained, and must terminate it before b can claim it", "`drmctl undrain a`",
				"HoldUntilTerminated",
			},
		},
		{
			name:   "the member is gone, and its lease runs",
			keys:   without(two(entry, claimKey("r", "a", claims.Active, 5, 0x70)), layout.Member("a")),
			change: func(f *facts) { f.Claim.Lease = left(59 * time.Second) },
			codes:  []string{ReasonLeaseRuns}, notes: []string{ReasonPinNotInForce},
			text: []string{"59 s of 60 s until the lease of a's claim ends, and b can claim it", "--lease-ttl"},
		},
		{
			name:   "the member hangs",
			keys:   two(entry, claimKey("r", "a", claims.Active, 5, 0x70)),
			change: func(f *facts) { f.leases["a"] = left(20 * time.Second) },
			codes:  []string{ReasonLeaseStale}, notes: []string{ReasonPinned},
			text: []string{"20 s of 60 s until a's key expires and b takes over"},
		},
		{
			name:   "a member that hangs has what is no longer its own",
			keys:   two(entry, claimKey("r", "b", claims.Active, 5, 0x71)),
			change: func(f *facts) { f.Claim.Lease = left(10 * time.Second) },
			codes:  []string{ReasonLeaseStale}, notes: []string{ReasonPinned},
			text: []string{"b does not renew", "10 s of 60 s until the lease of b's claim ends, and a can claim it"},
		},
		{
			name: "a claim of a former life",
			keys: two(entry, claimKey("r", "a", claims.Claimed, 0, 0x79)),
			change: func(f *facts) {
				f.Claim.Token, f.Claim.Lease = 1, left(50*time.Second)
				m := f.view.Members["a"]
				m.CreateRevision = 3
				f.view.Members["a"] = m
			},
			codes: []string{ReasonBeginning, ReasonFormerLife}, notes: []string{ReasonPinned},
			text: []string{"50 s of 60 s"},
		},
		{
			name: "a claim without a lease", keys: two(entry, claimKey("r", "b", claims.Active, 5, 0)),
			codes: []string{ReasonNoLease}, notes: []string{ReasonPinned},
		},
		{
			name: "failed", keys: two(entry, failedClaim("no route")), codes: []string{ReasonFailed},
			notes: []string{ReasonPinned}, text: []string{"no route", "--move-after"},
		},
		{
			name:  "a call takes long",
			keys:  two(entry, failedClaim("handle has been running since 2026-01-02T03:04:05Z")),
			codes: []string{ReasonFailed, ReasonCallRuns}, notes: []string{ReasonPinned, ReasonStuck},
			change: func(f *facts) { f.figures["a"] = claims.Figures{Stuck: 2} },
			text:   []string{"2 calls of a's handler"},
		},
		{
			name: "a budget", keys: two(entry, claimKey("r", "a", claims.Claimed, 5, 0x70)),
			change: func(f *facts) { f.figures["a"] = claims.Figures{Waiting: 7, WaitingForBudget: 4} },
			codes:  []string{ReasonBeginning, ReasonBudget, ReasonConcurrency}, notes: []string{ReasonPinned},
			text: []string{"4 resources of a wait", "--handle-rate", "3 calls of a wait"},
		},
		{
			name: "a suspect", keys: two(entry, claimKey("r", "a", claims.Claimed, 5, 0x70)),
			change: func(f *facts) { f.alone = claims.Alone{Member: "a", ID: "r"} },
			codes:  []string{ReasonBeginning, ReasonAlone}, notes: []string{ReasonPinned},
		},
		{
			name: "quarantined", keys: two(entry, claimKey("r", "a", claims.Quarantined, 5, 0x70),
				key(layout.Quarantine(n, "r"), `{"deaths":[{"member":"x","exit":"signal: killed"}]}`, 4, 0)),
			codes: []string{ReasonQuarantined}, notes: []string{ReasonPinned},
			text: []string{"signal: killed", "`drmctl retry r`"},
		},
		{
			name: "awaited", keys: without(two(entry, reservation), layout.Member("a")),
			change: func(f *facts) { f.awaited = left(40 * time.Second) },
			codes:  []string{ReasonAwaited}, notes: []string{ReasonPinned},
			text: []string{"40 s of 60 s until a's reservation ends", "`drmctl drain a`", "--rejoin"},
		},
		{
			name:  "awaited, and not released",
			keys:  without(two(entry, reservation, claimKey("r", "a", claims.Active, 5, 0x70)), layout.Member("a")),
			codes: []string{ReasonAwaited, ReasonLeaseRuns}, notes: []string{ReasonPinned},
		},
		{
			name: "full", keys: two(entry, declines("a", 0x70), declines("b", 0x71)), codes: []string{ReasonFull},
			notes: []string{ReasonPinned, ReasonLastResort}, text: []string{"--max-resources"},
		},
		{
			name: "one is full", keys: two(entry, declines("a", 0x70)), codes: []string{ReasonNotClaimed},
			notes: []string{ReasonPinNotInForce}, text: []string{"b has not claimed it yet", "a is full"},
		},
		{
			name: "cordoned", keys: two(entry, key(layout.Cordon("a"), `{}`, 6, 0)), codes: []string{ReasonNotClaimed},
			notes: []string{ReasonPinNotInForce}, text: []string{"`drmctl uncordon a`"},
		},
		{
			name: "all are unready",
			keys: []*mvccpb.KeyValue{
				entry, newMember("a", "unready", 0x70), slotKey("a"), claimKey("r", "a", claims.Active, 5, 0x70),
			},
			fine: true, notes: []string{ReasonUnreadyIgnored}, text: []string{"--min-ready"},
		},
		{
			name: "moved", keys: two(entry, claimKey("r", "b", claims.Active, 5, 0x71),
				key(layout.Move("r"), membership.Move{Member: "b", From: "a", Why: "refused"}.Encode(), 6, 0)),
			fine: true, notes: []string{ReasonMoved, ReasonPinned}, text: []string{"it did not work at a: refused"},
		},
		{
			name: "a move that is not in force", keys: two(entry, claimKey("r", "a", claims.Active, 5, 0x70),
				key(layout.Cordon("b"), `{}`, 5, 0),
				key(layout.Move("r"), membership.Move{Member: "b", From: "a", Why: "refused"}.Encode(), 6, 0)),
			fine: true, notes: []string{ReasonMoveNotInForce, ReasonPinned}, text: []string{"b is cordoned"},
		},
		{
			name: "placed", keys: append(without(two(entry, claimKey("r", "b", claims.Active, 5, 0x71)), layout.Pin(n)),
				key(layout.Exception(n),
					membership.Exception{Member: "b", Why: "move", By: "ops", Reason: "disk"}.Encode(), 6, 0)),
			fine: true, notes: []string{ReasonPlaced}, text: []string{"an operator has moved it) by ops: disk"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := factsOf(tt.change, tt.keys...)
			var codes, notes []string
			text := ""
			for _, r := range f.Reasons {
				if r.Hinders {
					codes = append(codes, r.Code)
				} else {
					notes = append(notes, r.Code)
				}
				text += r.Code + ": " + r.Text
				if r.Wait != nil {
					text += "; " + r.Wait.Text()
				}
				text += "; " + r.Remedy + "\n"
			}
			slices.Sort(codes)
			slices.Sort(notes)
			slices.Sort(tt.codes)
			slices.Sort(tt.notes)
			if f.Fine != tt.fine || !slices.Equal(codes, tt.codes) || !slices.Equal(notes, tt.notes) {
				t.Errorf("fine %v, hinders %q, notes %q; want %v, %q, %q:\n%s",
					f.Fine, codes, notes, tt.fine, tt.codes, tt.notes, text)
			}
			for _, part := range tt.text {
				if !strings.Contains(text, part) {
					t.Errorf("no %q in:\n%s", part, text)
				}
			}
			if strings.Contains(text, "nobody can") || strings.Contains(text, "  ") {
				t.Errorf("odd text:\n%s", text)
			}
		})
	}
}

var entry2 = layout.Resource(shardOf("r"), "r")

func TestACommandIsWrittenAsAShellTakesIt(t *testing.T) {
	for id, want := range map[string]string{
		"m1": "`drmctl drain m1`", "a b": "`drmctl drain 'a b'`", "-x": "`drmctl drain -- -x`",
		"it's": `'it'\''s'`, "héé": "'héé'", "a/b:c@d": "drain a/b:c@d`",
	} {
		if got := command("drain", id); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}
