package handler_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// What was given to an instance that is gone is not terminated at the one that has taken its place.
func TestNoTerminateIsSentToAnInstanceThatNeverHadTheResource(t *testing.T) {
	for name, restart := range map[string]func(m *mortal, w *handler.Webhook, v *witness){
		"and nothing was sent since": func(m *mortal, _ *handler.Webhook, _ *witness) {
			m.restart("two")
			stale()
		},
		"and a request has failed": func(m *mortal, w *handler.Webhook, v *witness) {
			m.kill()
			m.refuses(w, v)
			m.start("two")
		},
		"and is not there yet": func(m *mortal, w *handler.Webhook, v *witness) {
			m.kill()
			if err := w.Terminate(t.Context(), v.claim("a")); err == nil {
				t.Error("a dead receiver has ended something")
			}
			m.start("two")
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, v := newMortal(t, "one"), &witness{}
			w := m.webhook(t, handler.WebhookConfig{})
			for _, id := range []string{"a", "b", "c"} {
				fine(t, w.Handle(t.Context(), v.claim(id)))
			}
			restart(m, w, v)
			m.took()
			v.took()
			fine(t, w.Terminate(t.Context(), v.claim("a")))
			m.wantTook("two: instance")
			wantNames(t, v, "two")
			// From now on it is known that another instance is there. A handling of it is terminated.
			handled(t, w, v.claim("b"))
			stale()
			fine(t, w.Terminate(t.Context(), v.claim("b")))
			m.wantTook("two: handle b", "two: instance", "two: terminate b")
		})
	}
}

// While answers come, nothing is asked.
func TestATerminateAsksOnlyWhereTheInstanceIsInDoubt(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	stale()
	fine(t, w.Terminate(t.Context(), v.claim("a")))
	m.wantTook("one: handle a", "one: instance", "one: terminate a")
	for n, tries := 0, 0; n < 20; tries++ {
		if tries > 100_000 {
			t.Fatal("the machine is too slow")
		}
		m.took()
		began := time.Now()
		fine(t, w.Handle(t.Context(), v.claim("a")))
		fine(t, w.Terminate(t.Context(), v.claim("a")))
		if time.Since(began) < 8*time.Millisecond { // else the answer to the handle may not be recent
			m.wantTook("one: handle a", "one: terminate a")
			n++
		}
	}
}

// The connection of a terminate ends before the answer: that may mean a restart, so the terminate is not sent again to
// whoever is there now.
func TestATerminateThatMetTheEndOfItsInstanceIsNotSentToTheNext(t *testing.T) {
	for _, next := range []string{"one", "two"} {
		m, v := newMortal(t, "one"), &witness{}
		w := m.webhook(t, handler.WebhookConfig{})
		var ended atomic.Bool
		m.answers(func(w http.ResponseWriter, _ *http.Request, q asked) bool {
			if q.Action == "terminate" && !ended.Swap(true) {
				panic(http.ErrAbortHandler)
			}
			if !ended.Load() {
				return false
			}
			w.Header().Set(handler.InstanceHeader, next)
			w.WriteHeader(http.StatusNoContent)
			return true
		})
		fine(t, w.Handle(t.Context(), v.claim("a")))
		stale()
		fine(t, w.Terminate(t.Context(), v.claim("a")))
		want := []string{"one: handle a", "one: instance", "one: terminate a", "one: instance"}
		if next == "one" {
			want = append(want, "one: terminate a")
		}
		m.wantTook(want...)
	}
}

// Nobody knows whether the new instance has got a handle that had no answer. So its terminate is sent.
func TestATerminateAfterAnUnknownOutcomeIsAlwaysSent(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	ctx := t.Context()
	breaks := func(_ http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Action == "handle" && q.Resource.ID == "lost" {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	for _, id := range []string{"a", "b", "lost"} {
		fine(t, w.Handle(ctx, v.claim(id)))
	}
	m.answers(breaks)
	m.restart("two")
	if err := w.Handle(ctx, v.claim("lost")); !errors.Is(err, drm.ErrOutcomeUnknown) {
		t.Errorf("Handle: %v", err)
	}
	m.took()
	fine(t, w.Terminate(ctx, v.claim("lost")))
	m.wantTook("two: instance", "two: terminate lost")

	// What was unknown is settled by the terminate, and by a handle that succeeds.
	handled(t, w, v.claim("a"))
	for _, settles := range []func(){
		func() { fine(t, w.Terminate(ctx, v.claim("lost"))) },
		func() { m.answers(nil); fine(t, w.Handle(ctx, v.claim("lost"))) },
	} {
		m.answers(breaks)
		_ = w.Handle(ctx, v.claim("lost"))
		settles()
		wantInstance(t, w, "two")
		m.restart("three")
		stale()
		m.took()
		fine(t, w.Terminate(ctx, v.claim("lost")))
		m.wantTook("three: instance")
		m.restart("two")
		w = m.webhook(t, handler.WebhookConfig{})
		fine(t, w.Handle(ctx, v.claim("a")))
	}

	// What an instance may have got that is gone by now need not be terminated.
	m.answers(breaks)
	_ = w.Handle(ctx, v.claim("lost"))
	m.restart("four")
	wantInstance(t, w, "four")
	m.restart("five")
	stale()
	m.took()
	fine(t, w.Terminate(ctx, v.claim("lost")))
	m.wantTook("five: instance")
}

// A receiver that does not answer the question in time gets its terminate all the same.
func TestATerminateDoesNotWaitLongForTheQuestion(t *testing.T) {
	let := make(chan struct{})
	m, v := newMortal(t, "one"), &witness{}
	defer close(let)
	w := m.webhook(t, handler.WebhookConfig{Timeout: 2 * time.Second})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	m.answers(func(_ http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Action == "instance" {
			<-let
		}
		return false
	})
	stale()
	m.took()
	fine(t, w.Terminate(t.Context(), v.claim("a")))
	m.wantTook("one: instance", "one: terminate a")
	stale()
	fine(t, w.Terminate(t.Context(), v.claim("a")))
	m.wantTook("one: terminate a") // until the question is answered again
	m.answers(nil)
	wantInstance(t, w, "one")
	stale()
	m.took()
	fine(t, w.Terminate(t.Context(), v.claim("a")))
	m.wantTook("one: instance", "one: terminate a")
}

// Instances that take turns are no lives of one receiver. Each may still have what it was given.
func TestWhereInstancesTakeTurnsEachTerminateIsSent(t *testing.T) {
	for what, name := range map[string]func(n int) string{
		"two":                    func(n int) string { return fmt.Sprint(n % 2) },
		"twenty":                 func(n int) string { return fmt.Sprint(n % 20) },
		"another name each time": func(n int) string { return fmt.Sprint(n) },
	} {
		t.Run(what, func(t *testing.T) {
			m, v := newMortal(t, "one"), &witness{}
			w := m.webhook(t, handler.WebhookConfig{})
			n := 0
			m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool {
				n++
				w.Header().Set(handler.InstanceHeader, name(n))
				w.WriteHeader(http.StatusNoContent)
				return true
			})
			for i := range 25 {
				fine(t, w.Handle(t.Context(), v.claim(fmt.Sprint(i))))
			}
			stale()
			m.took()
			fine(t, w.Terminate(t.Context(), v.claim("a")))
			m.wantTook("one: instance", "one: terminate a")
		})
	}
}

// Many calls are in progress while the receiver is killed again and again. A new instance is never told to end what no
// request that may have reached it has begun.
func TestManyCallsMeetManyRestarts(t *testing.T) {
	m, v := newMortal(t, "0"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{Timeout: 5 * time.Second})
	over := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := v.claim(fmt.Sprint("r", i))
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := w.Handle(t.Context(), c); err == nil || errors.Is(err, drm.ErrOutcomeUnknown) {
					for w.Terminate(t.Context(), c) != nil {
						_ = w.Update(t.Context(), c)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				_, _ = w.Instance(t.Context())
			}
		}
	})
	const lives = 20
	for n := range lives {
		<-time.After(20 * time.Millisecond)
		m.restart(fmt.Sprint(n + 1))
	}
	close(over)
	wg.Wait()
	wantInstance(t, w, fmt.Sprint(lives))
}
