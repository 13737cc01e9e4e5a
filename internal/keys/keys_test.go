package keys_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// hardIDs are ids that a naive escape gets wrong.
var hardIDs = []string{
	"a", "a/b", "/", "//", "a/", "/a", ".", "..", "...", "....", ".a", "a.", "../x", "./x", "a/../b", " ", " a ", "a b",
	"%", "%%", "%2F", "%2f", "%2E", "%zz", "a%", "a+b", "a=b&c", "ann@host:8080", "~x", "claims/x", "resources/x",
	"😀", "é", "日本語/😀", "\u2028", "\u00a0", "\"quoted\"", "back\\slash", "<html>",
	strings.Repeat("x", keys.MaxIDBytes), strings.Repeat("/", keys.MaxIDBytes),
	strings.Repeat("😀", keys.MaxIDBytes/4), strings.Repeat(".", keys.MaxIDBytes),
}

func anyID() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom(hardIDs), rapid.StringMatching(`[a-z0-9./%: @~_-]{1,24}`),
		rapid.StringN(1, 40, keys.MaxIDBytes)).Filter(func(id string) bool { return keys.CheckID(id) == nil })
}

func anyLayout() *rapid.Generator[keys.Layout] {
	return rapid.Custom(func(t *rapid.T) keys.Layout {
		return keys.New(rapid.SampledFrom([]string{"/drm", "/drm/", "/a/b", "/", ""}).Draw(t, "prefix"),
			anyID().Draw(t, "app"))
	})
}

// built has a key of each kind, with what it stands for.
func built(l keys.Layout, id string, shard, slot int, lease int64) map[keys.Key]string {
	return map[keys.Key]string{
		{Kind: keys.Config}:                               l.Config(),
		{Kind: keys.Source}:                               l.Source(),
		{Kind: keys.Reshard}:                              l.Reshard(),
		{Kind: keys.Schema}:                               l.Schema(),
		{Kind: keys.Placement}:                            l.Placement(),
		{Kind: keys.Coordinator}:                          l.Coordinator(),
		{Kind: keys.AcceptOrder}:                          l.AcceptOrder(),
		{Kind: keys.FetchOrder}:                           l.FetchOrder(),
		{Kind: keys.Stats, ID: id}:                        l.Stats(id),
		{Kind: keys.Member, ID: id}:                       l.Member(id),
		{Kind: keys.Drain, ID: id}:                        l.Drain(id),
		{Kind: keys.Decline, ID: id}:                      l.Decline(id),
		{Kind: keys.Deallocation, ID: id}:                 l.Deallocation(id),
		{Kind: keys.Slot, Number: slot}:                   l.Slot(slot),
		{Kind: keys.Block, Number: slot}:                  l.Block(slot),
		{Kind: keys.Pin, Number: shard}:                   l.Pin(shard),
		{Kind: keys.Resource, ID: id, Number: shard}:      l.Resource(shard, id),
		{Kind: keys.Claim, ID: id, Number: shard}:         l.Claim(shard, id),
		{Kind: keys.Summary, Number: shard, Lease: lease}: l.Summary(shard, lease),
		{Kind: keys.Trail, Number: shard, Lease: lease}:   l.Trail(shard, lease),
		{Kind: keys.Quarantine, ID: id, Number: shard}:    l.Quarantine(shard, id),
		{Kind: keys.Alone}:                                l.Alone(),
		{Kind: keys.Deed}:                                 l.Deed(),
		{Kind: keys.Deaths, ID: id}:                       l.Deaths(id),
		{Kind: keys.Exception, Number: shard}:             l.Exception(shard),
		{Kind: keys.Cordon, ID: id}:                       l.Cordon(id),
		{Kind: keys.Weight, ID: id}:                       l.Weight(id),
		{Kind: keys.Reservation, ID: id}:                  l.Reservation(id),
		{Kind: keys.Prepared, ID: id}:                     l.Prepared(id),
		{Kind: keys.Load, ID: id}:                         l.Load(id),
		{Kind: keys.RebalanceOrder}:                       l.RebalanceOrder(),
		{Kind: keys.Lives, ID: id}:                        l.Lives(id),
		{Kind: keys.Retry, ID: id, Number: shard}:         l.Retry(shard, id),
	}
}

func TestEveryKeyComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLayout().Draw(t, "layout")
		shard := rapid.IntRange(0, keys.MaxShards-1).Draw(t, "shard")
		slot := rapid.IntRange(0, keys.MaxSlots).Draw(t, "slot")
		for want, key := range built(l, anyID().Draw(t, "id"), shard, slot, rapid.Int64Min(1).Draw(t, "lease")) {
			if got := l.Parse(key); got != want {
				t.Fatalf("Parse(%q) = %+v, want %+v", key, got, want)
			}
			if !strings.HasPrefix(key, l.Root()) {
				t.Fatalf("%q is outside of %q", key, l.Root())
			}
		}
	})
}

func inShard(k keys.Key) bool {
	switch k.Kind {
	case keys.Resource, keys.Claim, keys.Summary, keys.Trail, keys.Quarantine, keys.Retry:
		return true
	default:
		return false
	}
}

// A key for which one prefix is watched or listed must not appear below another prefix, whatever the ids are.
func TestNoKeyLeavesItsPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := keys.New("/drm", anyID().Draw(t, "app"))
		id := anyID().Draw(t, "id")
		shard := rapid.IntRange(0, keys.MaxShards-1).Draw(t, "shard")
		prefixes := map[string]func(keys.Key) bool{
			l.Group(): func(k keys.Key) bool {
				switch k.Kind {
				case keys.Member, keys.Slot, keys.Drain, keys.Decline, keys.Pin, keys.Placement, keys.Coordinator,
					keys.Exception, keys.Cordon, keys.Weight, keys.Reservation, keys.Prepared, keys.Schema, keys.Block:
					return true
				default:
					return false
				}
			},
			l.Deallocations(): func(k keys.Key) bool { return k.Kind == keys.Deallocation },
			l.Orders(): func(k keys.Key) bool {
				return k.Kind == keys.AcceptOrder || k.Kind == keys.FetchOrder || k.Kind == keys.RebalanceOrder ||
					k.Kind == keys.Deed
			},
			l.Drains():            func(k keys.Key) bool { return k.Kind == keys.Drain },
			l.Shards():            inShard,
			l.Shard(shard):        func(k keys.Key) bool { return inShard(k) && k.Number == shard },
			l.Summaries(shard):    func(k keys.Key) bool { return k.Kind == keys.Summary && k.Number == shard },
			l.Trails(shard):       func(k keys.Key) bool { return k.Kind == keys.Trail && k.Number == shard },
			l.Quarantines(shard):  func(k keys.Key) bool { return k.Kind == keys.Quarantine && k.Number == shard },
			l.Retries(shard):      func(k keys.Key) bool { return k.Kind == keys.Retry && k.Number == shard },
			l.Lives(""):           func(k keys.Key) bool { return k.Kind == keys.Lives },
			l.Deaths(""):          func(k keys.Key) bool { return k.Kind == keys.Deaths },
			l.Slots():             func(k keys.Key) bool { return k.Kind == keys.Slot },
			l.Blocks():            func(k keys.Key) bool { return k.Kind == keys.Block },
			l.Reservations():      func(k keys.Key) bool { return k.Kind == keys.Reservation },
			l.Weights():           func(k keys.Key) bool { return k.Kind == keys.Weight },
			l.Pins():              func(k keys.Key) bool { return k.Kind == keys.Pin },
			l.Members():           func(k keys.Key) bool { return k.Kind == keys.Member },
			l.Exceptions():        func(k keys.Key) bool { return k.Kind == keys.Exception },
			l.Loads():             func(k keys.Key) bool { return k.Kind == keys.Load },
			l.Member(""):          func(k keys.Key) bool { return k.Kind == keys.Member },
			l.Stats(""):           func(k keys.Key) bool { return k.Kind == keys.Stats },
			l.Resource(shard, ""): func(k keys.Key) bool { return k.Kind == keys.Resource && k.Number == shard },
		}
		other := rapid.IntRange(0, keys.MaxShards-1).Draw(t, "other shard")
		for _, s := range []int{shard, other} {
			for parsed, key := range built(l, id, s, s, 7) {
				for prefix, belongs := range prefixes {
					if strings.HasPrefix(key, prefix) != belongs(parsed) {
						t.Fatalf("%q below %q: %v, want %v", key, prefix, !belongs(parsed), belongs(parsed))
					}
				}
			}
		}
	})
}

func TestAppsDoNotSeeEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := keys.New("/drm", anyID().Draw(t, "one"))
		other := keys.New("/drm", anyID().Draw(t, "other"))
		if one == other {
			t.Skip("the same app")
		}
		for _, key := range built(one, anyID().Draw(t, "id"), 1, 1, 1) {
			if strings.HasPrefix(key, other.Root()) {
				t.Fatalf("%q is below %q", key, other.Root())
			}
			if got := other.Parse(key); got.Kind != keys.Foreign {
				t.Fatalf("%q is %+v for %q", key, got, other.Root())
			}
		}
	})
}

func TestDifferentIDsHaveDifferentKeysAndNoneIsAPathStep(t *testing.T) {
	seen := map[string]string{}
	for _, id := range hardIDs {
		e := keys.Escape(id)
		if other, twice := seen[e]; twice {
			t.Errorf("%q and %q are both %q", id, other, e)
		}
		seen[e] = id
		if e == "" || e == "." || e == ".." || strings.ContainsAny(e, "/ \x00\n") {
			t.Errorf("Escape(%q) = %q", id, e)
		}
		if got, err := keys.Unescape(e); err != nil || got != id {
			t.Errorf("Unescape(%q) = %q, %v, want %q", e, got, err, id)
		}
	}
}

func TestTheLayoutIsWhatTheDesignSays(t *testing.T) {
	l := keys.New("/drm", "my app")
	for got, want := range map[string]string{
		l.Root():                   "/drm/my%20app/",
		l.Config():                 "/drm/my%20app/config",
		l.Source():                 "/drm/my%20app/source",
		l.Stats("m/1"):             "/drm/my%20app/stats/m%2F1",
		l.Group():                  "/drm/my%20app/group/",
		l.Member("m"):              "/drm/my%20app/group/members/m",
		l.Slot(7):                  "/drm/my%20app/group/slots/00007",
		l.Slot(keys.MaxSlots):      "/drm/my%20app/group/slots/99999",
		l.Block(7):                 "/drm/my%20app/group/blocks/0000007",
		l.Block(keys.MaxBlock):     "/drm/my%20app/group/blocks/9999999",
		l.Drain("m"):               "/drm/my%20app/group/drains/m",
		l.Decline("m"):             "/drm/my%20app/group/declines/m",
		l.Pin(255):                 "/drm/my%20app/group/pins/00ff",
		l.Placement():              "/drm/my%20app/group/placement",
		l.Exception(255):           "/drm/my%20app/group/placement/00ff",
		l.Cordon("a/b"):            "/drm/my%20app/group/cordons/a%2Fb",
		l.Weight("a/b"):            "/drm/my%20app/group/weights/a%2Fb",
		l.Reservation("a/b"):       "/drm/my%20app/group/reservations/a%2Fb",
		l.Prepared("a/b"):          "/drm/my%20app/group/prepared/a%2Fb",
		l.Load("a/b"):              "/drm/my%20app/loads/a%2Fb",
		l.Lives("a/b"):             "/drm/my%20app/lives/a%2Fb",
		l.Coordinator():            "/drm/my%20app/group/coordinator",
		l.Deallocation("a"):        "/drm/my%20app/deallocated/a",
		l.AcceptOrder():            "/drm/my%20app/orders/accept",
		l.FetchOrder():             "/drm/my%20app/orders/fetch",
		l.Shard(0):                 "/drm/my%20app/shards/0000/",
		l.Resource(4095, "a/../b"): "/drm/my%20app/shards/0fff/resources/a%2F..%2Fb",
		l.Claim(16, ".."):          "/drm/my%20app/shards/0010/claims/%2E%2E",
		l.Summary(16, 0x7587):      "/drm/my%20app/shards/0010/active/0000000000007587",
		l.Trail(16, 0x7587):        "/drm/my%20app/shards/0010/begun/0000000000007587",
		l.Quarantine(16, "a/b"):    "/drm/my%20app/shards/0010/quarantine/a%2Fb",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestASlashAtThePrefixsEndMakesNoDifference(t *testing.T) {
	for _, tt := range []struct{ prefix, root string }{
		{"/drm", "/drm/app/"},
		{"/drm/", "/drm/app/"},
		{"/drm//", "/drm/app/"},
		{"/a/b", "/a/b/app/"},
		{"/", "/app/"},
		{"", "/app/"},
	} {
		if got := keys.New(tt.prefix, "app").Root(); got != tt.root {
			t.Errorf("New(%q): root %q, want %q", tt.prefix, got, tt.root)
		}
	}
}

func TestAKeyThatDRMWouldNotWriteIsForeign(t *testing.T) {
	l := keys.New("/drm", "app")
	for _, rest := range []string{
		"", "/", "x", "Config", "config/", "config/x", "source/", "group", "group/", "group/members", "group/members/",
		"group/members/a/b", "group/members/.", "group/members/..", "group/members/%2f", "group/members/%2F%zz",
		"group/members/a b", "group/members/a+b", "group/members/%61", "group/members/%2E%2E%2E", "group/members/\xff",
		"group/members/%FF", "group/members/%0A", "group/members/%00",
		"group/members/" + strings.Repeat("x", keys.MaxIDBytes+1),
		"group/slots/", "group/slots/1", "group/slots/000001", "group/slots/0000x", "group/slots/-0001",
		"group/slots/+0001", "group/blocks/", "group/blocks/1", "group/blocks/00000001", "group/blocks/+000001",
		"group/slots/0_001", "group/slots/ 0001", "group/pins/", "group/pins/0", "group/pins/1000", "group/pins/ffff",
		"group/pins/00FF", "group/pins/0x0f", "group/pins/+00f", "group/pins/00ff/", "group/placement/",
		"group/coordinator/x",
		"group/other", "stats/", "deallocated/", "deallocated/a/b", "orders", "orders/", "orders/other",
		"orders/fetch/x", "shards", "shards/", "shards/0000", "shards/0000/", "shards/0000/x",
		"shards/0000/claims", "shards/0000/claims/", "shards/0000/claims/a/b", "shards/1000/claims/a",
		"shards/00/claims/a",
		"shards/0000/active/", "shards/0000/active/a", "shards/0000/active/0000000000000000",
		"shards/0000/active/00000000000000aB",
		"shards/0000/active/0000000000000001/", "shards/1000/active/0000000000000001",
		"shards/0000/active/+000000000000001",
		"shards/00000/claims/a", "shards/FFF0/claims/a", "shards/00Fa/claims/a", "shards/0000/resource/a",
		"shards//claims/a",
	} {
		if got := l.Parse(l.Root() + rest); got != (keys.Key{}) {
			t.Errorf("Parse(%q) = %+v, want a foreign key", rest, got)
		}
	}
	for _, key := range []string{"", "config", "/drm/app", "/drm/other/config", "/drm/appconfig", "//drm/app/config"} {
		if got := l.Parse(key); got != (keys.Key{}) {
			t.Errorf("Parse(%q) = %+v, want a foreign key", key, got)
		}
	}
}

func TestAShardOrSlotBeyondTheLimitIsForeign(t *testing.T) {
	l := keys.New("/drm", "app")
	for _, n := range []int{keys.MaxShards, keys.MaxShards + 1, 65535, 65536, -1} {
		for _, key := range []string{
			l.Pin(n), l.Claim(n, "a"), l.Resource(n, "a"), l.Trail(n, 1), l.Quarantine(n, "a"),
		} {
			if got := l.Parse(key); got.Kind != keys.Foreign {
				t.Errorf("Parse(%q) = %+v, want a foreign key", key, got)
			}
		}
	}
	for _, n := range []int{keys.MaxSlots + 1, -1} {
		if got := l.Parse(l.Slot(n)); got.Kind != keys.Foreign {
			t.Errorf("Parse(%q) = %+v, want a foreign key", l.Slot(n), got)
		}
	}
}

func TestCheckIDSaysWhatWouldBeAccepted(t *testing.T) {
	for _, id := range hardIDs {
		if err := keys.CheckID(id); err != nil {
			t.Errorf("CheckID(%q): %v", id, err)
		}
	}
	for _, tt := range []struct{ id, want string }{
		{"", "an id that is not empty"},
		{strings.Repeat("x", keys.MaxIDBytes+1), "an id of at most 512 bytes"},
		{strings.Repeat("é", keys.MaxIDBytes/2+1), "an id of at most 512 bytes"},
		{"\xff", "an id that is valid UTF-8"},
		{"a\xc3", "an id that is valid UTF-8"},
		{"a\nb", "an id without control characters"},
		{"\x00", "an id without control characters"},
		{"a\x7f", "an id without control characters"},
		{"a\u0085", "an id without control characters"},
	} {
		if err := keys.CheckID(tt.id); err == nil || err.Error() != tt.want {
			t.Errorf("CheckID(%q) = %v, want %q", tt.id, err, tt.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, id := range hardIDs {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		e := keys.Escape(id)
		if strings.Contains(e, "/") || e == "." || e == ".." {
			t.Fatalf("Escape(%q) = %q", id, e)
		}
		if got, err := keys.Unescape(e); err != nil || got != id {
			t.Fatalf("Unescape(Escape(%q)) = %q, %v", id, got, err)
		}
		// Each id has only one spelling: Unescape accepts only what Escape writes.
		if got, err := keys.Unescape(id); err == nil && keys.Escape(got) != id {
			t.Fatalf("Unescape(%q) = %q, which is written %q", id, got, keys.Escape(got))
		}
	})
}

func FuzzParse(f *testing.F) {
	l := keys.New("/drm", "app")
	for _, id := range hardIDs[:12] {
		for _, key := range built(l, id, 77, 4, 0x7587_0000_0000_0001) {
			f.Add(key)
		}
	}
	f.Add("/drm/app/shards/1000/claims/a")
	f.Fuzz(func(t *testing.T, key string) {
		k := l.Parse(key)
		if k.Kind == keys.Foreign {
			if k != (keys.Key{}) {
				t.Fatalf("Parse(%q) = %+v, foreign but not empty", key, k)
			}
			return
		}
		if again := built(l, k.ID, k.Number, k.Number, k.Lease)[k]; again != key {
			t.Fatalf("Parse(%q) = %+v, which is written %q", key, k, again)
		}
	})
}

func FuzzTwoIDsNeverShareAKey(f *testing.F) {
	l := keys.New("/drm", "app")
	for i, id := range hardIDs {
		f.Add(id, hardIDs[(i+1)%len(hardIDs)], uint16(i))
	}
	f.Fuzz(func(t *testing.T, a, b string, number uint16) {
		n := int(number) % keys.MaxShards
		of := map[string]keys.Key{}
		for k, key := range built(l, a, n, n, 1) {
			of[key] = k
		}
		for k, key := range built(l, b, n, n, 1) {
			if other, shared := of[key]; shared && (other.Kind != k.Kind || other.ID != k.ID) {
				t.Fatalf("%+v and %+v are both %q", other, k, key)
			}
		}
		if a != b && keys.New("/drm", a).Root() == keys.New("/drm", b).Root() {
			t.Fatalf("apps %q and %q share a root", a, b)
		}
	})
}

func ExampleLayout_Parse() {
	l := keys.New("/drm", "feeds")
	key := l.Claim(486, "wss://example.org/feed")
	fmt.Println(key)
	k := l.Parse(key)
	fmt.Println(k.Kind == keys.Claim, k.Number, k.ID)
	// Output:
	// /drm/feeds/shards/01e6/claims/wss:%2F%2Fexample.org%2Ffeed
	// true 486 wss://example.org/feed
}

// benchIDs are a plain id, as most are, and one that needs escaping.
var benchIDs = map[string]string{"plain": "wss.example.org:feed-000042", "escaped": "wss://example.org/feed/42"}

func BenchmarkBuild(b *testing.B) {
	l := keys.New("/drm", "feeds")
	for name, id := range benchIDs {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Claim(1023, id)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	l := keys.New("/drm", "feeds")
	for name, id := range benchIDs {
		b.Run(name, func(b *testing.B) {
			key := l.Claim(1023, id)
			b.ReportAllocs()
			for b.Loop() {
				if l.Parse(key).Kind != keys.Claim {
					b.Fatal(key)
				}
			}
		})
	}
}

func TestAKeyBelongsBelowTheShardOfItsID(t *testing.T) {
	const shards = 16
	for _, kind := range []keys.Kind{keys.Resource, keys.Claim} {
		for _, id := range hardIDs {
			k := keys.Key{Kind: kind, ID: id, Number: shard.Of(id, shards) + 1}
			if got, want := k.Home(shards), shard.Of(id, shards); got != want {
				t.Errorf("%+v: shard %d, want %d", k, got, want)
			}
		}
	}
	if got := (keys.Key{Kind: keys.Trail, Number: 7, Lease: 1}).Home(shards); got != 7 {
		t.Errorf("a trail's home is %d, want where it lies", got)
	}
	if got := (keys.Key{Kind: keys.Summary, Number: 7, Lease: 1}).Home(shards); got != 7 {
		t.Errorf("a summary of shard 7: shard %d", got)
	}
}
