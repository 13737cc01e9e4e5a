package source

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A term that ends before it has read the record knows nothing of the source. The start that waits for the first fetch
// goes on waiting for what the next term finds.
func TestATermThatEndsBeforeItHasReadTheRecordDoesNotEndTheWaitForTheFirstFetch(t *testing.T) {
	silent, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	term := pausing(Options{
		KV: silent, CommandTimeout: time.Minute, Log: zap.NewNop(),
		FirstFetch: func(err error) { t.Errorf("the wait for the first fetch ended, with the error %v", err) },
	})
	defer term.timers.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	term.takeOver(ctx)
}
