package order_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/order"
)

// TestWhoTakesAnOrderBackIsRecordedInTheSameTransaction looks at the changes of each revision as etcd tells them.
func TestWhoTakesAnOrderBackIsRecordedInTheSameTransaction(t *testing.T) {
	s := newStage(t)
	s.put(layout.Member("a"), without)
	as := func(by string) *order.Desk {
		return &order.Desk{
			Reader: s.desk.Reader, Created: s.desk.Created, Origin: deed.Origin{By: by, Why: "because"},
		}
	}
	o := order.Options{Force: true}
	for name, one := range map[string]struct {
		key  string
		give func() error
		take func(*order.Desk) error
	}{
		"undrain": {
			layout.Drain("a"), func() error { return s.desk.Drain(t.Context(), "a", o) },
			func(d *order.Desk) error { return d.Undrain(t.Context(), "a") },
		},
		"uncordon": {
			layout.Cordon("a"), func() error { return s.desk.Cordon(t.Context(), "a", o) },
			func(d *order.Desk) error { return d.Uncordon(t.Context(), "a") },
		},
		"unweigh": {
			layout.Weight("a"), func() error { return s.desk.Weigh(t.Context(), "a", 2, o) },
			func(d *order.Desk) error { return d.Unweigh(t.Context(), "a") },
		},
		"unpin": {
			layout.Pin(3), func() error { return s.desk.Pin(t.Context(), 3, "a", o) },
			func(d *order.Desk) error { _, err := d.Unpin(t.Context(), 3); return err },
		},
		"free": {
			layout.Quarantine(shardOf("x"), "x"),
			func() error { s.put(layout.Quarantine(shardOf("x"), "x"), "?"); return nil },
			func(d *order.Desk) error { _, err := d.RetryAll(t.Context()); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := one.give(); err != nil {
				t.Fatal(err)
			}
			if err := one.take(as(name)); err != nil {
				t.Fatal(err)
			}
			resp, err := s.client.Get(t.Context(), layout.Deed())
			if err != nil || len(resp.Kvs) != 1 {
				t.Fatal(resp, err)
			}
			at := resp.Kvs[0].ModRevision
			d, err := deed.Decode(resp.Kvs[0].Value)
			if err != nil || d.By != name || d.Why != "because" || d.Since.IsZero() {
				t.Errorf("%+v, %v", d, err)
			}
			before, err := s.client.Get(t.Context(), one.key, clientv3.WithRev(at-1), clientv3.WithCountOnly())
			if err != nil || before.Count != 1 {
				t.Errorf("before that revision the order does not stand: %v, %v", before, err)
			}
			after, err := s.client.Get(t.Context(), one.key, clientv3.WithRev(at), clientv3.WithCountOnly())
			if err != nil || after.Count != 0 {
				t.Errorf("at that revision the order stands: %v, %v", after, err)
			}
			_ = one.take(as("nobody")) // a pin that is none any more is an error
			if resp, err = s.client.Get(t.Context(), layout.Deed()); err != nil || resp.Kvs[0].ModRevision != at {
				t.Errorf("what changes nothing was recorded: %v, %v", resp, err)
			}
		})
	}
}
