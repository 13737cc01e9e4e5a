package member

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/ready"
)

// figuresOf answers a list of the figures of all members.
type figuresOf struct {
	clientv3.KV
	members map[string]claims.Figures
	layout  keys.Layout
	err     error
	asked   int
}

func (f *figuresOf) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	f.asked++
	if f.err != nil {
		return nil, f.err
	}
	resp := (*clientv3.GetResponse)(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{
		{Key: []byte(f.layout.Stats("broken")), Value: []byte("{")},
	}})
	for id, figures := range f.members {
		resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: []byte(f.layout.Stats(id)), Value: figures.Encode()})
	}
	return resp, nil
}

func TestAMemberThatFailsAloneStaysAwayForAWhile(t *testing.T) {
	now := time.Hour
	layout := keys.New("/drm", "app")
	mine := claims.Figures{Claims: 20, Active: 1, Failed: 19}
	all := &figuresOf{layout: layout, err: errors.New("no"), members: map[string]claims.Figures{
		"me": mine, "b": {Active: 30, Failed: 1}, "c": {Active: 9},
	}}
	back := time.NewTimer(time.Hour)
	defer back.Stop()
	f := &failing{
		doubt: ready.NewDoubt(0.9, 15*time.Second, 10*time.Second), now: func() time.Duration { return now }, kv: all,
		layout: layout, id: "me", timeout: time.Second, log: zap.NewNop(), back: back,
	}
	step := func(d time.Duration, want bool) {
		t.Helper()
		now += d
		if got := f.look(t.Context(), mine); got != want {
			t.Fatalf("at %v: %v, want %v (reason %q)", now-time.Hour, got, want, f.reason)
		}
	}
	step(0, false)
	step(14*time.Second, false)
	if all.asked != 0 {
		t.Errorf("the others were asked for %d times before it had lasted", all.asked)
	}
	step(time.Second, false) // etcd does not answer
	all.err = nil
	step(9*time.Second, false) // not asked again yet
	step(time.Second, true)
	if all.asked != 2 || f.reason != "19 of its 20 resources fail, and 1 of the others' 40" {
		t.Errorf("asked %d times, reason %q", all.asked, f.reason)
	}
	now += 59 * time.Second
	if f.isBack() || f.reason == "" {
		t.Error("it is back too early")
	}
	now += time.Second
	if !f.isBack() || f.reason != "" || f.isBack() {
		t.Errorf("it is not back after a minute: %q", f.reason)
	}
	step(0, false)
	step(16*time.Second, true) // it fails again
	if left := f.doubt.Left(now); left != 2*time.Minute || !strings.Contains(f.reason, "19 of its 20") {
		t.Errorf("it stays away for %v the second time, reason %q", left, f.reason)
	}
}

func TestNothingIsComparedWithNever(t *testing.T) {
	f := &failing{now: func() time.Duration { return 0 }, log: zap.NewNop()}
	if f.look(t.Context(), claims.Figures{Failed: 100}) || f.isBack() {
		t.Error("it looks")
	}
}
