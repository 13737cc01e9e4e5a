//go:build linux || darwin

package handler

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

type validFor time.Duration

func (v validFor) Remaining() time.Duration { return time.Duration(v) }

// newTestLink makes a link without a guard. It has n processes for each of these validities.
func newTestLink(n int, validities ...*validFor) *guardLink {
	l := &guardLink{
		procs: map[int]*process{},
		wake:  make(chan struct{}, 1),
		keep:  make(chan struct{}, 1),
		pause: keepAtMost,
	}
	for _, v := range validities {
		for range n {
			id := fmt.Sprint(len(l.procs))
			c := drm.NewClaim("app", "m", drm.Resource{ID: id}, 1, v)
			l.add(&process{claim: c}, startOrder{Until: 1}, time.Minute)
		}
	}
	l.queue = nil
	l.acked = l.seq
	return l
}

func TestALinkRenewsManyProcessesInOneMessage(t *testing.T) {
	t.Parallel()
	long, short := validFor(20*time.Minute), validFor(5*time.Second)
	l := newTestLink(200, &long, &short)
	pause, _ := l.renew(time.Second)
	if want := 500 * time.Millisecond; pause != want {
		t.Errorf("it looks again after %v, want %v", pause, want)
	}
	if len(l.queue) != 1 {
		t.Fatalf("%d messages, want 1", len(l.queue))
	}
	renewed := 0
	for _, r := range l.queue[0].Renew {
		renewed += len(r.IDs)
	}
	// The clock goes on during these looks, so that it passes many multiples of untilStep.
	if groups := len(l.queue[0].Renew); renewed != 400 || groups > 50 {
		t.Errorf("%d processes renewed in %d groups", renewed, groups)
	}
	if text, err := json.Marshal(l.queue[0]); err != nil || len(text) > 10_000 {
		t.Errorf("the message has %d bytes (%v)", len(text), err)
	}
}

// A deadline that is earlier than the one that the guard knows is sent, however small the difference is.
func TestALinkTellsOfAClaimThatEnded(t *testing.T) {
	t.Parallel()
	v := validFor(20 * time.Minute)
	l := newTestLink(1, &v)
	l.renew(time.Second)
	l.queue, l.acked = nil, l.seq
	v = 0
	l.renew(time.Millisecond)
	if len(l.queue) != 1 || len(l.queue[0].Renew) != 1 || l.queue[0].Renew[0].Until != 1 {
		t.Errorf("orders: %+v", l.queue)
	}
}

func TestALinkSuspectsAGuardThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	v := validFor(20 * time.Minute)
	l := newTestLink(1, &v)
	if !l.usable(2) || l.usable(1) {
		t.Error("a guard with room is not used, or one without")
	}
	var silent time.Duration
	for range 10 {
		if _, silent = l.renew(time.Second); silent >= replaceAfter {
			break
		}
	}
	if silent < replaceAfter || l.usable(2) {
		t.Errorf("nothing was answered for 10 s, and it is silent for %v", silent)
	}
	l.acked = l.seq
	if _, silent = l.renew(time.Second); silent != 0 || !l.usable(2) {
		t.Errorf("it answered, and is silent for %v", silent)
	}
}

// A guard that dies is noticed at the same time as further processes are handed to it.
func TestTheGroupsOfADeadGuardAreKilledWhileProcessesAreAdded(t *testing.T) {
	t.Parallel()
	valid := validFor(time.Minute)
	l := newTestLink(100, &valid)
	added := make(chan struct{})
	go func() {
		defer close(added)
		for n := range 1000 {
			c := drm.NewClaim("app", "m", drm.Resource{ID: fmt.Sprint("further ", n)}, 1, &valid)
			l.add(&process{claim: c}, startOrder{Until: 1}, time.Minute)
		}
	}()
	for again := true; again; {
		select {
		case <-added:
			again = false
		default:
			l.killGroups() // none of the processes was started: there is nothing to kill
		}
	}
}
