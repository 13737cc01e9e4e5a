package order_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestTwoWhoFreeAllAtOnceDoNotFailBecauseOfEachOther(t *testing.T) {
	s := newStage(t)
	record := claims.Quarantine{Data: "x", Deaths: []claims.Death{{Member: "m", At: time.Now()}}}.Encode()
	const records = 200
	for i := range records {
		id := fmt.Sprint("r", i)
		s.put(layout.Quarantine(shard.Of(id, s.app.Shards), id), string(record))
	}
	type outcome struct {
		ids []string
		err error
	}
	outcomes := make(chan outcome)
	for range 2 {
		go func() {
			ids, err := s.desk.RetryAll(s.ctx)
			outcomes <- outcome{ids, err}
		}()
	}
	freed := 0
	for range 2 {
		o := <-outcomes
		if o.err != nil {
			t.Error(o.err)
		}
		freed += len(o.ids)
	}
	if freed != records {
		t.Errorf("%d freed, want %d", freed, records)
	}
	if _, err := s.desk.Retry(s.ctx, "r0", order.Options{}); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("free it once more: %v, want ErrNotFound", err)
	}
}

// claim puts the entry of a resource, and a claim in that state.
func (s *stage) claim(id, state string) {
	s.t.Helper()
	s.put(layout.Resource(shardOf(id), id), fmt.Sprintf(
		`{"from_source":false,"allocated":true,"own_data":false,"suspended":false,"data":{"id":%q}}`, id))
	s.put(layout.Claim(shardOf(id), id), fmt.Sprintf(
		`{"member":"m","state":%q,"since":"2026-01-02T03:04:05Z","error":""}`, state))
}

func TestWhatHasFailedIsOrderedToBeTriedAgain(t *testing.T) {
	s := newStage(t)
	s.claim("bad", claims.Failed)
	s.claim("good", claims.Active)
	options := order.Options{By: "ann", Why: "the database is back"}
	for id, want := range map[string]string{"bad": claims.Failed, "good": ""} {
		if was, err := s.desk.Retry(s.ctx, id, options); was != want || err != nil {
			t.Errorf("retry %s: %q, %v, want %q", id, was, err, want)
		}
	}
	_, err := s.desk.Retry(s.ctx, "none", options)
	s.wants("of no resource", err, picture.ErrNotFound)
	if _, _, there := s.get(layout.Retry(shardOf("good"), "good")); there {
		t.Error("an order stands to try again what works")
	}
	value, lease, there := s.get(layout.Retry(shardOf("bad"), "bad"))
	var given membership.Order
	if !there || lease == 0 || json.Unmarshal([]byte(value), &given) != nil || given.By != "ann" ||
		given.Why != "the database is back" || given.Since.IsZero() {
		t.Errorf("the order is %q on lease %d (%v)", value, lease, there)
	}
}

func TestThousandsAreTriedAgainWithFewTransactionsAndLeases(t *testing.T) {
	s := newStage(t)
	const failed = 2500
	var want []string
	for i := range failed {
		id := fmt.Sprint("r", i)
		s.put(layout.Claim(shardOf(id), id),
			`{"member":"m","state":"failed","since":"2026-01-02T03:04:05Z","error":"x"}`)
		want = append(want, id)
	}
	s.claim("good", claims.Active)
	slices.Sort(want)
	before := s.revision()
	got, err := s.desk.RetryFailed(s.ctx, order.Options{})
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%d ordered (%v), want %d", len(got), err, failed)
	}
	if wrote := s.revision() - before; wrote > failed/100+16 {
		t.Errorf("%d transactions for %d orders", wrote, failed)
	}
	if n := s.leases(); n > 16 {
		t.Errorf("%d leases", n)
	}
	_, err = s.client.Delete(s.ctx, layout.Config())
	s.must(err)
	_, err = s.desk.RetryFailed(s.ctx, order.Options{})
	s.wants("in an app that is gone", err, appconfig.ErrGone)
}
