package order_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/picture"
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
	if err := s.desk.Retry(s.ctx, "r0"); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("free it once more: %v, want ErrNotFound", err)
	}
}
