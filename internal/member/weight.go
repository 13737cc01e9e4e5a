package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// ErrStopping says that a member stops, or has stopped.
var ErrStopping = errors.New("the member stops")

// weights is what this member does about its weight: the one that it has by itself, and the slots that belong to that
// one or to the one that an operator has ordered.
type weights struct {
	own atomic.Int64 // the weight that the member's key has to say

	mu   sync.Mutex
	told chan struct{} // closed when there may be another registration; then there is another channel
}

// changed returns a channel that is closed when the registration changes.
func (w *weights) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told == nil {
		w.told = make(chan struct{})
	}
	return w.told
}

// tell wakes those who wait for the registration to change.
func (w *weights) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told != nil {
		close(w.told)
		w.told = nil
	}
}

// SetWeight gives the member another weight of its own, 0 to membership.MaxWeight, and returns once etcd has it, or
// another call has given the member yet another one. The weight stays when the member registers anew. If ctx ends
// first, the member goes on trying. ErrStopping says that the member stops. Any goroutine may call it, after Start.
func (m *Member) SetWeight(ctx context.Context, weight int) error {
	w := &m.place.weights
	w.own.Store(int64(weight))
	m.place.wake()
	for {
		changed := w.changed()
		reg := m.place.reg.Load()
		if reg != nil && reg.Record.Weight == weight || w.own.Load() != int64(weight) {
			return nil
		}
		select {
		case <-changed:
		case <-m.staying.Done():
			return ErrStopping
		case <-ctx.Done():
			return fmt.Errorf("wait until etcd has the weight: %w", context.Cause(ctx))
		}
	}
}

// heedWeight brings the member's key and its slots in line with its weight: its own, or the one that an operator has
// ordered. A member that is about to stop leaves them as they are. A view that is older than what was written last says
// nothing of the slots: the next one will.
func (p *place) heedWeight(ctx context.Context, v *membership.View, reg membership.Registration) error {
	reg = p.asShown(v, reg)
	has, own := reg.Record, int(p.weights.own.Load())
	if v.Revision < reg.Revision && has.Weight == own {
		return nil
	}
	counts := v.WeightWith(p.id, own)
	fits := counts == 0 || !v.NeedsSlots(p.id) || has.Holds() == counts // it takes more slots once it needs them
	if !has.HasJoined() || has.Leaves || p.goes.Load() || has.Weight == own && fits {
		return nil
	}
	written, err := p.registrar.Weigh(ctx, reg, own)
	switch {
	case errors.Is(err, membership.ErrGone): // the next view says so, too, and then the member registers again
		return nil
	case err != nil:
		return err
	}
	p.setRegistration(&written)
	_, ordered := v.Weights[p.id]
	p.log.Info("the weight has changed", zap.Int("weight", counts), zap.Int("own", own), zap.Bool("ordered", ordered),
		zap.Int("slots", written.Record.Holds()))
	return nil
}

// asShown returns this member's registration with the weight and the slots that a view shows, unless the view is older
// than what was written last: a write whose answer was lost may have been applied after all, at any time.
func (p *place) asShown(v *membership.View, reg membership.Registration) membership.Registration {
	shown := v.Members[p.id]
	if shown.CreateRevision == reg.CreateRevision && shown.HasJoined() && v.Revision >= reg.Revision {
		r := &reg.Record
		r.Weight, r.Slots, r.Blocks, r.Held = shown.Weight, shown.Slots, shown.Blocks, shown.Held
	}
	return reg
}
