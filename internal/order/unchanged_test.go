package order_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// group puts the keys of a group with two members, and returns the revision at which it is so.
func (s *stage) group() int64 {
	s.t.Helper()
	s.put(layout.Member("a"), withSource)
	s.put(layout.Member("b"), without)
	s.put(layout.Slot(0), "a")
	s.put(layout.Slot(1), "b")
	s.put(layout.Block(100), membershipBlock)
	return s.revision()
}

const membershipBlock = `{"member":"","slots":32,"used":0}`

func (s *stage) revision() int64 {
	s.t.Helper()
	resp, err := s.client.Get(s.t.Context(), layout.Config())
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (s *stage) delete(key string) {
	s.t.Helper()
	if _, err := s.client.Delete(s.t.Context(), key); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnOrderIsRefusedIfTheGroupHasChangedSince(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	exception := membership.Exception{Member: "a", Why: membership.WhyBound}.Encode()
	for key, says := range map[string]string{
		layout.Member("c"):      `the key of member "c"`,
		layout.Slot(2):          "slot 2",
		layout.Block(132):       "slot 132",
		layout.Drain("z"):       `the drain of member "z"`,
		layout.Cordon("z"):      `the cordon of member "z"`,
		layout.Weight("z"):      `the weight ordered for member "z"`,
		layout.Pin(3):           "the pin of shard 3",
		layout.Exception(4):     "the placement of shard 4",
		layout.Placement():      "the placement",
		layout.Reservation("z"): `the reservation of member "z"`,
	} {
		revision := s.group()
		value := exception
		if key == layout.Member("c") {
			value = without
		}
		s.put(key, value)
		for _, what := range []string{" is new", " is another one", " is gone"} {
			since := revision
			if what != " is new" {
				since = s.revision()
				s.put(key, value)
			}
			if what == " is gone" {
				since = s.revision()
				s.delete(key)
			}
			err := s.desk.Cordon(s.ctx, "b", order.Options{IfRevision: since})
			if !errors.Is(err, order.ErrChanged) || !strings.Contains(err.Error(), says+what) {
				t.Errorf("%s%s: %v", key, what, err)
			}
		}
	}
	if _, _, there := s.get(layout.Cordon("b")); there {
		t.Error("an order that was refused stands")
	}
}

func TestWhatIsNoChangeOfTheGroupRefusesNoOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	revision := s.group()
	s.put(layout.Decline("a"), `{"shards":"1"}`)
	s.put(layout.Prepared("a"), "7")
	s.put(layout.Coordinator(), "a")
	s.put(layout.Schema(), `{"schema":2}`)
	s.put(layout.Move("r"), membership.Move{Member: "b"}.Encode())
	s.put(layout.Load("a"), `{"shards":{}}`)
	s.put(layout.Resource(0, "r"), `{}`)
	o := order.Options{IfRevision: revision, By: "ann"}
	if err := s.desk.Unchanged(s.ctx, revision); err != nil {
		t.Error(err)
	}
	if err := s.desk.Cordon(s.ctx, "b", o); err != nil {
		t.Error(err)
	}
	if err := s.desk.Cordon(s.ctx, "b", o); err != nil { // it stands already
		t.Errorf("the order again: %v", err)
	}
	if err := s.desk.Drain(s.ctx, "b", o); !errors.Is(err, order.ErrChanged) {
		t.Errorf("another order: %v", err)
	}
	o.IfRevision = s.revision()
	if err := s.desk.Weigh(s.ctx, "b", 3, o); err != nil {
		t.Error(err)
	}
	o.IfRevision = s.revision() + 100
	if err := s.desk.Pin(s.ctx, 1, "a", o); !errors.Is(err, picture.ErrFuture) {
		t.Errorf("a revision that is not there yet: %v", err)
	}
	if _, err := s.client.Compact(s.ctx, s.revision()); err != nil {
		t.Fatal(err)
	}
	o.IfRevision = revision
	if err := s.desk.Pin(s.ctx, 1, "a", o); !errors.Is(err, picture.ErrCompacted) {
		t.Errorf("a revision that was compacted: %v", err)
	}
}

// interloper writes a key before the first transaction.
type interloper struct {
	clientv3.KV
	key, value string
}

func (i *interloper) Txn(ctx context.Context) clientv3.Txn {
	if i.key != "" {
		_, _ = i.Put(ctx, i.key, i.value)
		i.key = ""
	}
	return i.KV.Txn(ctx)
}

func TestAChangeInTheLastMomentRefusesAnOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	since := s.group()
	for _, key := range []string{
		layout.Member("a"), layout.Slot(0), layout.Block(100), layout.Drain("z"), layout.Cordon("z"),
		layout.Weight("z"), layout.Pin(3), layout.Exception(4), layout.Placement(), layout.Reservation("z"),
	} {
		value := `{}`
		if now, _, there := s.get(key); there {
			value = now
		}
		kv := s.client.KV
		s.client.KV = &interloper{kv, key, value}
		err := s.desk.Pin(s.ctx, 9, "a", order.Options{IfRevision: since})
		s.client.KV = kv
		if !errors.Is(err, order.ErrChanged) {
			t.Errorf("%s: %v", key, err)
		}
		since = s.revision()
	}
	if _, _, there := s.get(layout.Pin(9)); there {
		t.Error("an order that was refused stands")
	}
}
