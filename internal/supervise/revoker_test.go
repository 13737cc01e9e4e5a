package supervise

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

// fakeEtcd answers as its functions say.
type fakeEtcd struct {
	get    func(ctx context.Context) error
	revoke func(ctx context.Context, id int64) error
	ttl    func() error  // of a lease that there is not
	id     atomic.Uint64 // of the cluster; 0: 77

	mu      sync.Mutex
	revoked []int64 // the requests to revoke, in the order in which they came
}

func (f *fakeEtcd) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if f.get != nil {
		if err := f.get(ctx); err != nil {
			return nil, err
		}
	}
	return &clientv3.GetResponse{Header: f.header()}, nil
}

func (f *fakeEtcd) TimeToLive(context.Context, clientv3.LeaseID, ...clientv3.LeaseOption) (
	*clientv3.LeaseTimeToLiveResponse, error,
) {
	if f.ttl != nil {
		if err := f.ttl(); err != nil {
			return nil, err
		}
	}
	return &clientv3.LeaseTimeToLiveResponse{ResponseHeader: f.header(), TTL: -1}, nil
}

func (f *fakeEtcd) header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{ClusterId: cmp.Or(f.id.Load(), 77)}
}

func (f *fakeEtcd) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	f.mu.Lock()
	f.revoked = append(f.revoked, int64(id))
	f.mu.Unlock()
	if f.revoke == nil {
		return &clientv3.LeaseRevokeResponse{}, nil
	}
	return nil, f.revoke(ctx, int64(id))
}

func (f *fakeEtcd) all() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.revoked)
}

// revoker makes a Revoker that has asked etcd already, unless etcd does not answer.
func revoker(t *testing.T, f *fakeEtcd) (*Revoker, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	r := NewRevoker(RevokerConfig{Etcd: f, Probe: "/drm/", Attempt: time.Second, All: time.Second, Log: zap.New(core)})
	t.Cleanup(r.Close)
	if f.get == nil {
		<-r.ended
	}
	return r, logs
}

func has(logs *observer.ObservedLogs, text string) bool {
	says := func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, text) }
	return slices.ContainsFunc(logs.All(), says)
}

func leasesOf(of leaselink.Of, ids ...int64) (all []leaselink.Lease) {
	for _, id := range ids {
		all = append(all, leaselink.Lease{ID: id, Of: of, Cluster: 77})
	}
	return all
}

func TestTheMembersOwnLeaseIsRevokedFirst(t *testing.T) {
	f := &fakeEtcd{}
	r, logs := revoker(t, f)
	r.Revoke(t.Context(), End{Leases: append(leasesOf(leaselink.Claims, 2, 3, 4), leasesOf(leaselink.Member, 1)...)})
	got := f.all()
	if len(got) != 4 || got[0] != 1 {
		t.Errorf("revoked %v, want 1 first, and all of them", got)
	}
	if !has(logs, "revoked the leases") {
		t.Error("no line says that leases were revoked")
	}
}

func TestALeaseOfAnotherClusterIsLeftAlone(t *testing.T) {
	f := &fakeEtcd{}
	r, logs := revoker(t, f)
	r.Revoke(t.Context(), End{Leases: []leaselink.Lease{
		{ID: 1, Of: leaselink.Member, Cluster: 78},
		{ID: 2, Of: leaselink.Claims, Cluster: 77},
		{ID: 3, Of: leaselink.Claims},
	}})
	got := f.all()
	slices.Sort(got)
	if !slices.Equal(got, []int64{2, 3}) || !has(logs, "another etcd cluster") {
		t.Errorf("revoked %v, want 2 and 3; logged %v", got, logs.All())
	}
}

// foreign are leases of two clusters, of which etcd is 77.
var foreign = []leaselink.Lease{{ID: 1, Of: leaselink.Member, Cluster: 78}, {ID: 2, Of: leaselink.Claims, Cluster: 77}}

// The command may die before etcd has answered for the first time.
func TestALeaseOfAnotherClusterIsLeftAloneBeforeEtcdHasAnswered(t *testing.T) {
	var answers atomic.Bool
	asked := make(chan struct{}, 100)
	f := &fakeEtcd{get: func(context.Context) error {
		if answers.Load() {
			return nil
		}
		asked <- struct{}{}
		return errors.New("nobody is there")
	}}
	r, logs := revoker(t, f)
	<-asked
	r.Close() // so that only Revoke asks
	answers.Store(true)
	r.Revoke(t.Context(), End{Leases: foreign})
	if got := f.all(); !slices.Equal(got, []int64{2}) || !has(logs, "another etcd cluster") {
		t.Errorf("revoked %v, want 2; logged %v", got, logs.All())
	}
}

// A user of etcd who may revoke the leases need not be allowed to read the key that the supervisor asks for.
func TestALeaseOfAnotherClusterIsLeftAloneWhereTheProbeIsRefused(t *testing.T) {
	f := &fakeEtcd{get: func(context.Context) error { return rpctypes.ErrPermissionDenied }}
	r, logs := revoker(t, f)
	<-r.ended
	r.Revoke(t.Context(), End{Leases: foreign})
	if got := f.all(); !slices.Equal(got, []int64{2}) || !has(logs, "another etcd cluster") {
		t.Errorf("revoked %v, want 2; logged %v", got, logs.All())
	}
	if has(logs, "cannot reach etcd") {
		t.Errorf("a refusal counts as no answer: %v", logs.All())
	}
}

func TestNothingIsRevokedWhileTheClusterIsNotKnown(t *testing.T) {
	f := &fakeEtcd{
		get: func(context.Context) error { return rpctypes.ErrPermissionDenied },
		ttl: func() error { return errors.New("nobody is there") },
	}
	r, logs := revoker(t, f)
	r.Revoke(t.Context(), End{Leases: foreign})
	if got := f.all(); len(got) > 0 || !has(logs, "cannot revoke leases") {
		t.Errorf("revoked %v, want none; logged %v", got, logs.All())
	}
	r.Revoke(t.Context(), End{Leases: []leaselink.Lease{{ID: 3}}}) // which names none
	if got := f.all(); !slices.Equal(got, []int64{3}) {
		t.Errorf("revoked %v, want 3", got)
	}
}

func TestARestoredEtcdIsTheSupervisorsToo(t *testing.T) {
	f := &fakeEtcd{}
	r, logs := revoker(t, f)
	f.id.Store(78)
	r.Revoke(t.Context(), End{Leases: []leaselink.Lease{{ID: 1, Cluster: 78}}})
	if got := f.all(); !slices.Equal(got, []int64{1}) {
		t.Errorf("revoked %v, want 1; logged %v", got, logs.All())
	}
}

func TestARevocationIsTriedAgainForItsTime(t *testing.T) {
	var mu sync.Mutex
	tries := map[int64]int{}
	f := &fakeEtcd{revoke: func(_ context.Context, id int64) error {
		mu.Lock()
		defer mu.Unlock()
		tries[id]++
		switch {
		case id == 1 && tries[id] < 3:
			return rpctypes.ErrNoLeader
		case id == 1:
			return nil
		case id == 2:
			return rpctypes.ErrLeaseNotFound
		case id == 3:
			return rpctypes.ErrPermissionDenied
		default:
			return rpctypes.ErrNoLeader
		}
	}}
	r, logs := revoker(t, f)
	began := time.Now()
	r.Revoke(t.Context(), End{Leases: leasesOf(leaselink.Claims, 1, 2, 3, 4)})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v, though it may take a second", took)
	}
	if tries[1] != 3 || tries[2] != 1 || tries[3] != 1 || tries[4] < 3 {
		t.Errorf("tries %v", tries)
	}
	if !has(logs, "cannot revoke leases") {
		t.Errorf("no line says that leases were not revoked: %v", logs.All())
	}
}

func TestAnEtcdThatDoesNotAnswerIsToldOnce(t *testing.T) {
	asked := make(chan int, 100)
	n := 0
	f := &fakeEtcd{get: func(context.Context) error {
		n++
		asked <- n
		if n < 4 {
			return errors.New("nobody is there")
		}
		return nil
	}}
	r, logs := revoker(t, f)
	for range 4 {
		<-asked
	}
	<-r.ended
	if len(logs.All()) != 2 || !has(logs, "cannot reach etcd") || !has(logs, "etcd answers") {
		t.Errorf("logged %v, want a line that etcd does not answer, and one that it does", logs.All())
	}
}
