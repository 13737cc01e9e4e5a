package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
)

// order is one message of the queue: handle this resource from now on, or stop handling it.
type order struct {
	Resource drm.Resource
	Remove   bool
}

// queue is a message queue that several consumers share. A real one runs elsewhere (NATS, SQS, a table of a database).
// A consumer gives back an order that it could not carry out. Orders about one resource must be carried out one after
// the other: so whoever orders waits until the first is done before ordering the opposite, or the queue keeps the order
// of each key.
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
// deallocates what they name. All members do so at the same time. It does not matter which of them takes an order,
// since a resource is handled by the member that it belongs to.
type source struct {
	queue  queue
	logger *zap.Logger

	cancel context.CancelFunc
	done   sync.WaitGroup
}

var _ drm.Retriever = (*source)(nil)

// Setup begins to take orders. The API may be used from any goroutine until TearDown has returned.
func (s *source) Setup(_ context.Context, api drm.API) error {
	// The context of Setup would end with Setup.
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() {
		for {
			o, ok := s.queue.take(ctx)
			if !ok {
				return
			}
			if !s.carryOut(ctx, api, o) {
				s.queue.giveBack(o) // this member leaves, and another one will carry it out
				return
			}
		}
	})
	return nil
}

// carryOut tries until it succeeds or ctx ends. An order may be carried out twice, where the answer to the first
// attempt was lost. Neither Allocate nor Deallocate minds.
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

// push carries out an order once. An *InputError and ErrNotFound are final: trying again would not help.
func push(ctx context.Context, api drm.API, o order) error {
	var err error
	if o.Remove {
		err = api.Deallocate(ctx, o.Resource.ID)
	} else {
		err = api.Allocate(ctx, o.Resource)
	}
	var input *drm.InputError
	if errors.Is(err, drm.ErrNotFound) || errors.As(err, &input) {
		return nil // a real program would tell the sender of the order
	}
	return err
}

// Fetch returns nothing: etcd keeps what was allocated until it is deallocated.
func (s *source) Fetch(context.Context) ([]drm.Resource, error) { return nil, nil }

// TearDown stops taking orders, and waits for the one in progress.
func (s *source) TearDown(context.Context) error {
	s.cancel()
	s.done.Wait()
	return nil
}
