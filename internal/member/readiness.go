package member

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

const (
	// A call of Ready may take ReadyInterval, but at least shortestProbe (a busy machine may need some of that to begin
	// with the call), and at most longestProbe.
	shortestProbe = time.Second
	longestProbe  = 10 * time.Second
	// maxReason is how many bytes of a reason other members and operators see. All members read it, at each change of
	// the group.
	maxReason = 256
)

// readiness asks the user's Ready again and again, and decides by its answers whether this member can work.
// newReadiness makes it, and Start runs it. The other methods are for any goroutine.
type readiness struct {
	ask      func(context.Context) error // the user's Ready; it does not panic
	interval time.Duration
	limit    time.Duration // of one call
	log      *zap.Logger
	wake     func()        // makes the place look at the decision
	again    func()        // makes everything be handled again, since the service that had it was restarted
	decided  chan struct{} // closed at the first decision

	hangs chan answer // where the result of a call arrives that took too long; nil if there is none. For run only
	now   func() time.Duration

	mu     sync.Mutex
	count  *ready.Count
	reason string // why the member is not ready; "" if it is, or nothing is known yet
}

// answer is what a call of Ready returned.
type answer struct{ err error }

func newReadiness(cfg *Config, now func() time.Duration, log *zap.Logger, wake, again func()) *readiness {
	return &readiness{
		ask: cfg.Ready, interval: cfg.ReadyInterval, log: log, wake: wake,
		limit:   min(max(cfg.ReadyInterval, shortestProbe), longestProbe),
		again:   again,
		decided: make(chan struct{}), now: now, count: ready.NewCount(cfg.UnreadyAfter, cfg.ReadyAfter),
	}
}

// run asks until ctx ends. Then it waits up to usercode.Grace for a call that is in progress.
func (r *readiness) run(ctx context.Context) {
	for {
		began := r.now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			r.end()
			return
		}
		if err == ready.ErrRestarted { //nolint:errorlint // Is would call methods of the user's errors
			r.log.Info("the service was restarted; handling again what it had")
			r.again()
			err = nil
		}
		r.note(err)
		// The pauses differ, so that the members of a group do not all ask one service at the same moment.
		if !pace.Wait(ctx, pace.Less(r.interval, 0.1)-(r.now()-began)) {
			r.end()
			return
		}
	}
}

// once calls Ready, and returns its error, or that it took too long. While an earlier call has not returned, it calls
// nothing: that one counts as failed again.
func (r *readiness) once(ctx context.Context) error {
	if r.hangs != nil {
		select {
		case <-r.hangs: // what it found is too old to count
			r.hangs = nil
		default: // the text is the same each time, so that the member's key is not written each time
			return fmt.Errorf("a call of Ready does not return, though its limit of %v is over", r.limit)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("no answer within %v", r.limit))
	defer cancel()
	result := make(chan answer, 1)
	usercode.Detached(func() error { return r.ask(ctx) }, func(err error) { result <- answer{err} })
	select {
	case a := <-result:
		if ctx.Err() != nil { // the limit explains more than what Ready made of it
			return context.Cause(ctx)
		}
		return a.err
	case <-ctx.Done():
	}
	r.hangs = result
	moment := time.NewTimer(min(r.limit/5, 100*time.Millisecond)) // most calls return when their context ends
	defer moment.Stop()
	select {
	case <-result:
		r.hangs = nil
	case <-moment.C:
	}
	return context.Cause(ctx)
}

// end waits a moment for a call that is in progress.
func (r *readiness) end() {
	if r.hangs == nil {
		return
	}
	grace := time.NewTimer(usercode.Grace)
	defer grace.Stop()
	select {
	case <-r.hangs:
	case <-grace.C:
		r.log.Warn("a call of Ready has not returned; it is left behind")
	}
}

// note counts an answer.
func (r *readiness) note(err error) {
	text := ""
	if err != nil {
		text = oneLine(err.Error())
	}
	r.mu.Lock()
	first := !r.isDecided()
	changed := r.count.Note(err == nil)
	isReady, was := r.count.Ready(), r.reason
	switch {
	case isReady:
		r.reason = ""
	case err != nil:
		r.reason = text
	}
	differs := r.reason != was
	r.mu.Unlock()
	switch {
	case first:
		close(r.decided) // the start tells what was decided
	case changed && isReady:
		r.log.Info("ready again: this member takes its share again")
	case changed:
		r.log.Warn("not ready: other members take over what this one has, until it is ready again",
			zap.String("reason", text))
	}
	if changed || differs {
		r.wake()
	}
}

// isDecided says whether there was a first answer.
func (r *readiness) isDecided() bool {
	select {
	case <-r.decided:
		return true
	default:
		return false
	}
}

// whyNot returns why the member is not ready. It returns "" if it is ready, and before the first answer.
func (r *readiness) whyNot() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

// oneLine makes an error's text fit for a member's key.
func oneLine(text string) string {
	text = excerpt.Clip(strings.Join(strings.Fields(text), " "), maxReason)
	if text == "" {
		return "not ready, and Ready did not say why"
	}
	return text
}
