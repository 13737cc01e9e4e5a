package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
)

// order is one message of the queue: handle this from now on, or handle it no more.
type order struct {
	Resource drm.Resource
	Remove   bool
}

// queue is a message queue that several consumers share; a real one runs elsewhere (NATS, SQS, a table of a database).
// What a consumer could not do it gives back. Orders about one resource must be taken in their order: so the one who
// orders waits for the first to be done before ordering the opposite, or the queue keeps the order per key.
type queue chan order

// take returns the next order, and false when ctx has ended.
func (q queue) take(ctx context.Context) (order, bool) {
	select {
	case o := <-q:
		return o, true
	case <-ctx.Done():
		return order{}, false
	}
}

func (q queue) giveBack(o order) { q <- o }

// source is a drm.Retriever that pushes: from Setup to TearDown it takes orders from the queue, and allocates and
// deallocates what they name. All members do so at once; it does not matter which of them takes an order, since what is
// allocated is handled by the member that it belongs to.
type source struct {
	queue  queue
	logger *zap.Logger

	cancel context.CancelFunc
	done   sync.WaitGroup
}

var _ drm.Retriever = (*source)(nil)

// Setup begins to take orders. The API may be used from any goroutine until TearDown has returned.
func (s *source) Setup(_ context.Context, api drm.API) error {
	// Not the context of Setup, which ends with it.
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() {
		for {
			o, ok := s.queue.take(ctx)
			if !ok {
				return
			}
			if !s.carryOut(ctx, api, o) {
				s.queue.giveBack(o) // this member leaves; another one will do it
				return
			}
		}
	})
	return nil
}

// carryOut tries until it works, or ctx ends. An order may be carried out twice, when the answer of the first time was
// lost: both Allocate and Deallocate bear that.
func (s *source) carryOut(ctx context.Context, api drm.API, o order) bool {
	for {
		err := push(ctx, api, o)
		if err == nil {
			return true
		}
		s.logger.Warn("cannot carry out an order", zap.String("resource", o.Resource.ID), zap.Error(err))
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return false
		}
	}
}

// push carries out an order once. An *InputError is for good, and so is ErrNotFound: to try again would not help.
func push(ctx context.Context, api drm.API, o order) error {
	var err error
	if o.Remove {
		err = api.Deallocate(ctx, o.Resource.ID)
	} else {
		err = api.Allocate(ctx, o.Resource)
	}
	var input *drm.InputError
	if errors.Is(err, drm.ErrNotFound) || errors.As(err, &input) {
		return nil // a real one would tell who ordered it
	}
	return err
}

// Fetch returns nothing: what was allocated is kept by etcd, and stays until it is deallocated.
func (s *source) Fetch(context.Context) ([]drm.Resource, error) { return nil, nil }

// TearDown ends the taking of orders, and waits for the one that is being carried out.
func (s *source) TearDown(context.Context) error {
	s.cancel()
	s.done.Wait()
	return nil
}
