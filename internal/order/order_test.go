package order_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

var layout = keys.New("/drm", "app")

const (
	withSource = `{"state":"active","weight":1,"slots":[0],"started":"2026-01-02T03:04:05Z","source":true}`
	without    = `{"state":"active","weight":1,"slots":[1],"started":"2026-01-02T03:04:05Z","source":false}`
)

// stage is an app whose members' keys a test writes itself.
type stage struct {
	t      *testing.T
	ctx    context.Context // ends before the test's own time does
	client *clientv3.Client
	desk   *order.Desk
	app    appconfig.Config
}

func newStage(t *testing.T) *stage {
	client := embeddedtest.Client(t)
	app, err := appconfig.Open(t.Context(), client, layout, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	reader := &picture.Reader{Client: client, Layout: layout, Shards: app.Shards, Timeout: 10 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &stage{t, ctx, client, &order.Desk{Reader: reader, Created: app.CreateRevision}, app}
}

func (s *stage) put(key, value string) {
	s.t.Helper()
	if _, err := s.client.Put(s.t.Context(), key, value); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) get(key string) (value string, lease int64, there bool) {
	s.t.Helper()
	resp, err := s.client.Get(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", 0, false
	}
	return string(resp.Kvs[0].Value), resp.Kvs[0].Lease, true
}

func (s *stage) leases() int {
	s.t.Helper()
	resp, err := s.client.Leases(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return len(resp.Leases)
}

func TestTheLastMemberIsNotDrained(t *testing.T) {
	s := newStage(t)
	s.put(layout.Member("a"), withSource)
	s.put(layout.Slot(0), "a")
	if err := s.desk.Drain(t.Context(), "a", order.Options{}); !errors.Is(err, order.ErrLastMember) {
		t.Errorf("drain the only member: %v", err)
	}
	if err := s.desk.Drain(t.Context(), "b", order.Options{}); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("drain a member that nobody knows: %v", err)
	}
	if err := s.desk.Undrain(t.Context(), "b"); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("undrain a member that nobody knows: %v", err)
	}
	if err := s.desk.Drain(t.Context(), "b", order.Options{Absent: true}); err != nil {
		t.Errorf("drain a member that is to come: %v", err)
	}
	first, _, there := s.get(layout.Drain("b"))
	if err := s.desk.Drain(t.Context(), "b", order.Options{Absent: true}); err != nil || !there {
		t.Errorf("drain it again: %v", err)
	}
	if again, _, _ := s.get(layout.Drain("b")); again != first {
		t.Errorf("the order was written anew: %s, before %s", again, first)
	}
	if err := s.desk.Undrain(t.Context(), "b"); err != nil {
		t.Errorf("undrain it: %v", err)
	}
	if _, _, there := s.get(layout.Drain("b")); there {
		t.Error("the order still stands")
	}
}

func TestAnOrderAboutTheSourceNeedsAMemberWithASourceAndTheSameApp(t *testing.T) {
	s := newStage(t)
	s.put(layout.Member("b"), without)
	if _, err := s.desk.Refetch(t.Context()); !errors.Is(err, order.ErrNoSource) {
		t.Errorf("no member has a source: %v", err)
	}
	s.put(layout.Member("a"), withSource)
	given, err := s.desk.AcceptRemovals(t.Context(), "d1")
	if err != nil || given.Revision == 0 {
		t.Fatalf("%+v, %v", given, err)
	}
	value, lease, _ := s.get(layout.AcceptOrder())
	if value != `{"digest":"d1"}` || lease == 0 {
		t.Errorf("the order: %s on lease %d, want one that expires", value, lease)
	}
	leases := s.leases()
	other := order.Desk{Reader: s.desk.Reader, Created: s.app.CreateRevision + 1}
	if _, err := other.Refetch(t.Context()); !errors.Is(err, appconfig.ErrGone) {
		t.Errorf("the app was made anew: %v", err)
	}
	if _, _, there := s.get(layout.FetchOrder()); there || s.leases() != leases {
		t.Errorf("of an order that was not given, a key (%v) or a lease is left", there)
	}
}

func TestWhatCameOfAnOrderAboutTheSource(t *testing.T) {
	s := newStage(t)
	s.put(layout.Member("a"), withSource)
	for name, tt := range map[string]struct {
		record string // ORDER is the order's revision
		want   error
	}{
		"refused":           {`"accepted":{"revision":ORDER,"error":"others are held"}`, order.ErrNotAccepted},
		"another came":      {`"accepted":{"revision":99999999,"removed":3}`, order.ErrNotAccepted},
		"made":              {`"accepted":{"revision":ORDER,"removed":3}`, nil},
		"expired meanwhile": {`"accepted":{"revision":1,"removed":3}`, picture.ErrOrderExpired},
	} {
		t.Run(name, func(t *testing.T) {
			given, err := s.desk.AcceptRemovals(t.Context(), "d")
			if err != nil {
				t.Fatal(err)
			}
			s.record(given, tt.record)
			if _, err := s.client.Delete(t.Context(), given.Key); err != nil {
				t.Fatal(err)
			}
			removed, err := order.WaitAccepted(s.ctx, s.desk.Reader, given)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) || err == nil && removed != 3 {
				t.Errorf("%d removed, %v, want %v", removed, err, tt.want)
			}
		})
	}
	given, err := s.desk.Refetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.record(given, `"attempt_revision":ORDER,"error":"no route"`)
	if _, err := order.WaitRefetched(s.ctx, s.desk.Reader, given); !errors.Is(err, source.ErrFailed) {
		t.Errorf("the attempt failed: %v", err)
	}
	s.record(given, `"attempt_revision":ORDER`)
	last, err := order.WaitRefetched(s.ctx, s.desk.Reader, given)
	if err != nil || last.Attempt != given.Revision {
		t.Errorf("%+v, %v", last, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var wait *picture.WaitError
	if _, err := order.WaitRefetched(ended, s.desk.Reader, given); !errors.As(err, &wait) {
		t.Errorf("its context ended: %v", err)
	}
}

func TestTheSourceOfALiveMemberIsNotDropped(t *testing.T) {
	s := newStage(t)
	store := &catalogue.Store{
		Etcd: txn.New(s.client), Limits: new(txn.Limits), Layout: layout, Shards: s.app.Shards,
		Config: s.app.CreateRevision, Timeout: 10 * time.Second,
	}
	s.put(layout.Member("z"), withSource)
	s.put(layout.Member("a"), withSource)
	var inUse *order.SourceInUseError
	if _, err := s.desk.DropSource(t.Context(), store); !errors.As(err, &inUse) || inUse.Member != "a" {
		t.Errorf("drop: %v", err)
	}
	if _, err := s.desk.SourceLeaves(t.Context(), store); !errors.As(err, &inUse) {
		t.Errorf("what it leaves: %v", err)
	}
	for _, member := range []string{"a", "z"} {
		if _, err := s.client.Delete(t.Context(), layout.Member(member)); err != nil {
			t.Fatal(err)
		}
	}
	s.put(layout.Source(), "?") // a corrupt record is as good as none
	if removed, err := s.desk.DropSource(t.Context(), store); removed != 0 || err != nil {
		t.Errorf("drop: %d, %v", removed, err)
	}
	if value, _, there := s.get(layout.Source()); there {
		t.Errorf("the record is still there: %s", value)
	}
}

// record writes a record of the source's fetches, in which ORDER stands for the order's revision.
func (s *stage) record(given picture.Order, fields string) {
	s.t.Helper()
	fields = strings.ReplaceAll(fields, "ORDER", strconv.FormatInt(given.Revision, 10))
	s.put(layout.Source(), `{"resources":0,`+fields+`}`)
}

func shardOf(id string) int { return shard.Of(id, 16) }
