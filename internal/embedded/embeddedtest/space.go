package embeddedtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// FillUp writes foreign keys into an etcd until it takes no more.
func FillUp(tb testing.TB, etcd *clientv3.Client) {
	tb.Helper()
	value := strings.Repeat("x", 100_000)
	for i := 0; ; i++ {
		_, err := etcd.Put(tb.Context(), fmt.Sprintf("filler/%d", i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil || i > 10_000 {
			tb.Fatalf("after %d keys etcd is not full: %v", i, err)
		}
	}
}

// MakeRoom does what an operator does with a full etcd: it deletes, compacts, gives the space back, and ends the alarm.
func MakeRoom(tb testing.TB, etcd *clientv3.Client) {
	tb.Helper()
	ctx := tb.Context()
	resp, err := etcd.Delete(ctx, "filler/", clientv3.WithPrefix())
	if err == nil {
		_, err = etcd.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = etcd.Defragment(ctx, etcd.Endpoints()[0])
	}
	if err == nil {
		_, err = etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		tb.Fatalf("make room: %v", err)
	}
}
