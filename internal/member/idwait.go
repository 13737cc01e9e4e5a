package member

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/membership"
)

// idWait tells people that a start waits for its member id: it logs a line every few seconds, and writes on the board.
// A member that was killed and starts again at once meets its own old key, which lives for up to the TTL of its lease.
// Nobody should take such a start for one that hangs, and kill it: the next one would wait as long.
type idWait struct {
	log    *zap.Logger
	board  *health.Board
	id     string
	anyID  bool          // another id is tried if the wait is in vain
	within time.Duration // how long the wait may take

	done, hide func()
}

// begin begins to tell of the wait for the id that this member has.
func (w *idWait) begin(holder membership.Member) {
	until := time.Now().Add(w.within)
	fields := []zap.Field{
		zap.String("id", w.id), zap.String("address", holder.Address), zap.Time("since", holder.Started),
		zap.Duration("at_most", w.within), zap.Time("until", until),
	}
	w.log.Info("the member id is in use; waiting until it is free, in case its member has died", fields...)
	w.hide = w.board.Wait(fmt.Sprintf("the member id %q to be free", w.id), func() string {
		return w.text(holder)
	}, until)
	w.done = tellWait(tellIDMost, func(waited time.Duration) {
		w.log.Info("waiting for the member id to be free, in case its member has died",
			append([]zap.Field{zap.Duration("waited", waited)}, fields...)...)
	})
}

// text says who has the id, and what follows.
func (w *idWait) text(holder membership.Member) string {
	from, since, then := holder.Address, "an unknown time", "this start fails"
	if from == "" {
		from = "an unknown address"
	}
	if !holder.Started.IsZero() {
		since = holder.Started.UTC().Format(time.RFC3339)
	}
	if w.anyID {
		then = "this member takes another id"
	}
	return fmt.Sprintf("a member at %s has had it since %s; if that member was killed, its key expires within %v; "+
		"if it lives, %s", from, since, w.within, then)
}

// end ends what begin has begun, if it has.
func (w *idWait) end() {
	if w.done != nil {
		w.done()
		w.hide()
	}
}
