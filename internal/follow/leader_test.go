package follow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// A member of etcd that is cut off from the others would keep a watch open for ever, and send nothing.
func TestAWatchOfAMemberWithoutALeaderDoesNotStaySilent(t *testing.T) {
	cluster := embeddedtest.Cluster(t, 3)
	c := dial(t, cluster.Endpoints()[0]) // only to this member
	prefix := newPrefix()
	m := newMirror(prefix)
	noLeader := make(chan struct{}, 1)
	h := newHub(t, c, follow.Options{ListTimeout: time.Second, OnError: func(_ string, err error) {
		if errors.Is(err, rpctypes.ErrNoLeader) {
			select {
			case noLeader <- struct{}{}:
			default:
			}
		}
	}})
	start(t, h, prefix, m)
	put := func(value string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			if _, err := c.Put(ctx, prefix+"x", value); err == nil {
				return
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	put("before")
	m.has(t, prefix+"x", "before")
	for _, i := range []int{1, 2} {
		if err := cluster.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-noLeader:
	case <-time.After(time.Minute):
		t.Fatal("nothing said that there is no leader")
	}
	if err := cluster.Restart(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	put("after")
	m.has(t, prefix+"x", "after")
}
