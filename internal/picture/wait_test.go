package picture

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
)

func TestAWaitThatItsContextEndedSaysWhatWasSeenLast(t *testing.T) {
	why, other := errors.New("enough"), errors.New("etcd refuses")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := ended(ctx, "resource \"r\"", "it is claimed", other); err != other {
		t.Errorf("got %v while the context lives, want %v", err, other)
	}
	cancel(why)
	if err := ended(ctx, "resource \"r\"", "it is claimed", nil); err != nil {
		t.Errorf("got %v for a wait that was successful", err)
	}
	for last, want := range map[string]string{
		"it is claimed": `wait for resource "r": it is claimed: enough`,
		"":              `wait for resource "r": enough`,
	} {
		err := ended(ctx, "resource \"r\"", last, ctx.Err())
		if _, is := err.(*WaitError); !is || !errors.Is(err, why) || err.Error() != want {
			t.Errorf("got %#v, want %q", err, want)
		}
	}
}

func TestAnOrderStandsWhileItOrALaterOneIsThere(t *testing.T) {
	order := Order{Key: layout.FetchOrder(), Revision: 7}
	for _, tt := range []struct {
		found []*mvccpb.KeyValue
		want  bool
	}{
		{nil, false},
		{[]*mvccpb.KeyValue{key(order.Key, "", 6, 0x70)}, false},
		{[]*mvccpb.KeyValue{key(order.Key, "", 7, 0x70)}, true},
		{[]*mvccpb.KeyValue{key(order.Key, "", 8, 0x70)}, true},
	} {
		if got := stands(tt.found, order); got != tt.want {
			t.Errorf("%v: stands is %v, want %v", tt.found, got, tt.want)
		}
	}
}

func TestAMemberMissesWhatAnotherHasOrNobodyHandles(t *testing.T) {
	view, wanted := of(alone()...).view, entryKey("r", false)
	for _, tt := range []struct {
		name string
		keys []*mvccpb.KeyValue
		n    int
		want string
	}{
		{name: "an empty shard"},
		{name: "active", keys: []*mvccpb.KeyValue{wanted, claimKey("r", "a", claims.Active, 7, 0x70)}, n: 1},
		{name: "failed", keys: []*mvccpb.KeyValue{wanted, claimKey("r", "a", claims.Failed, 7, 0x70)}, n: 1},
		{name: "not wanted", keys: []*mvccpb.KeyValue{entryKey("r", true)}},
		{
			name: "unassigned", keys: []*mvccpb.KeyValue{wanted},
			want: `its "r" is unassigned: a has not claimed it yet`,
		},
		{
			name: "claimed", keys: []*mvccpb.KeyValue{wanted, claimKey("r", "a", claims.Claimed, 7, 0x70)},
			want: `its "r" is claimed`,
		},
		{
			name: "another's", keys: []*mvccpb.KeyValue{wanted, claimKey("r", "b", claims.Active, 7, 0x71)},
			want: `"r" is still with "b"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Reader{Layout: layout, Shards: testShards}
			if n, what := r.missingOf("a", view, tt.keys); n != tt.n || what != tt.want {
				t.Errorf("got %d, %q, want %d, %q", n, what, tt.n, tt.want)
			}
		})
	}
}

func TestAWaitKeepsItsReasonWhileEtcdDoesNotAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	looks, last := 0, ""
	err := (&Reader{}).until(ctx, &last, nil, func(context.Context) (bool, error) {
		switch looks++; looks {
		case 1:
			last = "there is no live member"
		case 3:
			cancel()
		}
		return false, fmt.Errorf("%w: %d", etcd.ErrUnreachable, looks)
	})
	want := "there is no live member; since then: etcd unreachable: 2"
	if !errors.Is(err, context.Canceled) || last != want {
		t.Errorf("%v, and the reason %q, want %q", err, last, want)
	}
}
