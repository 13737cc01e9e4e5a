package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatIsOrderedIsHandled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for line := range strings.Lines(out.String()) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		node, verb, resource := words[0], words[1], words[2]
		switch {
		case verb == "handles" && held[resource] != "":
			t.Errorf("%s is handled by %s and %s", resource, held[resource], node)
		case verb == "handles":
			held[resource] = node
		case held[resource] != node:
			t.Errorf("%s terminates %s, which %q has", node, resource, held[resource])
		default:
			delete(held, resource)
		}
	}
	if len(held) > 0 {
		t.Errorf("both nodes left, and these are still handled: %v", held)
	}
	for n := 1; n <= 12; n++ {
		if id := fmt.Sprintf("job-%d", n); !strings.Contains(out.String(), "handles "+id+"\n") {
			t.Errorf("%s was ordered, and never handled", id)
		}
	}
}

// unreachable is a drm.API that never works.
type unreachable struct {
	drm.API
	asked chan struct{}
}

func (u *unreachable) Allocate(ctx context.Context, _ drm.Resource) error {
	u.asked <- struct{}{}
	<-ctx.Done()
	return errors.Join(drm.ErrUnreachable, ctx.Err())
}

func TestAnOrderThatWasNotCarriedOutIsGivenBack(t *testing.T) {
	orders := make(queue, 1)
	s := &source{queue: orders, logger: zap.NewNop()}
	api := &unreachable{asked: make(chan struct{}, 1)}
	if err := s.Setup(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	orders <- order{Resource: drm.Resource{ID: "a"}}
	<-api.asked
	if err := s.TearDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-orders:
		if o.Resource.ID != "a" {
			t.Errorf("given back: %+v", o)
		}
	default:
		t.Error("the order is lost")
	}
}
