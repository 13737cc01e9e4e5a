package drm

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// Handler is what a program does with the resources that its member claims. DRM calls it from many goroutines at once,
// but never has more than one call in progress for one resource (a Checker's Check is the exception). A call may be
// slow, hang, panic, end its goroutine or call back into the Manager, and so may the methods of the errors that it
// returns: that delays the resource it is about, and nothing else. A call that hangs for Config.TerminateTimeout after
// its context has ended is given up: its handling is no longer valid, and the claim is released, unless the policy is
// HoldUntilTerminated.
type Handler interface {
	// Handle starts handling the claimed resource and returns once that works (it does not block for as long as the
	// resource is handled; handler.Loop is for functions that do). ctx outlives the return: it ends when Terminate has
	// returned, or at the claim's deadline, or when Handle takes longer than Config.HandleTimeout, or when a call of
	// the resource hangs and is given up, and context.Cause says which of these it was. After an error the resource
	// counts as not handled: HandleFailed is called, and then Handle again, after a backoff.
	Handle(ctx context.Context, c Claim) error
	// HandleFailed is told of each Handle or Update that failed, panicked or timed out. It is part of that call: ctx
	// ends after Config.TerminateTimeout, or within a second while the member stops, and what follows for the resource
	// waits for its return.
	HandleFailed(ctx context.Context, c Claim, err error)
	// Terminate ends the handling. It is called once for each Handle that succeeded, panicked, timed out or was
	// cancelled, or whose error matches ErrOutcomeUnknown, and never for a Handle that returned another error. Where
	// what Handle began is gone with the process that had it (CauseServiceRestarted), Handle is called again instead;
	// if the resource has to leave this member before that, Terminate is called all the same, unless the handler has
	// said that another instance of its service answers (Restartable). The claim is given away only after Terminate has
	// returned (or after Config.TerminateTimeout). ctx ends at the claim's deadline or after that timeout. At the
	// deadline Terminate should stop waiting, and still leave nothing behind: where it fails because of the deadline
	// (context.Cause(ctx) is CauseFenced), it is called once more, to clean up, and no deadline ends that call.
	Terminate(ctx context.Context, c Claim) error
	// TerminateFailed is told of each Terminate that failed, panicked or timed out. It is part of that call, as
	// HandleFailed is part of a Handle.
	TerminateFailed(ctx context.Context, c Claim, err error)
}

// Updater is what a Handler may implement besides: Update hands over the changed data of a resource that is being
// handled. Without it, such a resource is terminated and handled anew under the same claim. After an error of Update
// the resource is terminated and handled anew too.
type Updater interface {
	Update(ctx context.Context, c Claim) error
}

// Finisher is what a Handler may implement besides: where FinishesCalls says true, a Handle or Update in progress is
// not cancelled when its resource moves, changes or is removed, or when the member stops. DRM waits for the call to
// return, until Config.HandleTimeout or the end of the claim, and then calls Terminate. While the member stops, it
// waits only until Config.TerminateTimeout and 3 s are left of Config.StopTimeout (half of StopTimeout, where that is
// not as long), so that Terminate has its time. It is for handlers whose calls are requests to another process: a
// request that is cut off may still be carried out there, after the Terminate that follows. Without it, the context of
// such a call ends at once.
type Finisher interface {
	FinishesCalls() bool
}

// Restartable is what a Handler may implement besides, where another process that may restart by itself does the work:
// a service to which the Handler sends requests. It says with Claim.ServedBy which instance of the service has
// answered. DRM calls Instance once a second, and every 250 ms while that fails, so that a restart is noticed although
// nothing is to be handled. When another instance answers, everything that earlier instances were given is handled
// again, under the same claims and within the usual limits, without Terminate: the instance that had it is gone.
type Restartable interface {
	// Instance asks the service which instance answers. The empty string says that it does not tell. ctx ends after 5
	// s. It is called by one goroutine at a time.
	Instance(ctx context.Context) (string, error)
}

// Checker is what a Handler may implement besides: DRM asks it now and then whether what it began still works, so that
// a resource that is wedged (a connection that hangs, a program that does nothing) does not stay active for ever.
//
// Check is called while the resource is handled, every Config.CheckInterval, and never for one resource twice at once.
// An error says that the resource does not work. After Config.CheckFailures of them in a row, DRM goes on as after a
// Claim.Fail with that error: Terminate, and Handle again after a backoff. Until then nothing changes; a nil in between
// ends the row. A Check that panics, ends its goroutine, or takes longer than Config.CheckTimeout has failed. An error
// that matches errors.ErrUnsupported says that the Handler cannot check (or that the service which does its work
// cannot): this member does not ask it again, unless the Handler says that another instance of its service answers
// (Restartable).
//
// Check is the exception from the rule that a resource has one call at a time: no Check begins while another call of
// its resource is in progress, but no other call waits for a Check. If one becomes due, the context of the Check ends,
// and the call begins at once. The same ends the context: the end of the handling, and the end of the claim. What a
// Check returns after that does not count.
//
// A Check that has not returned 1 s after the end of its time is left behind, and others begin in its place. While it
// is there, each further check of its resource has failed. Sixteen times Config.CheckConcurrency checks are left behind
// at most; those beyond that keep others from beginning.
type Checker interface {
	Check(ctx context.Context, c Claim) error
}

// Validity tells how long a claim is surely valid from now. Implementations are safe for use from any goroutine.
type Validity interface {
	// Remaining is the time until the local deadline, which comes before etcd can give the claim to anyone else. It is
	// zero or negative once the deadline has passed.
	Remaining() time.Duration
}

// Reporter is what a Validity may implement besides: it is given what Claim.Report is given.
type Reporter interface {
	Report(err error)
}

// Failer is what a Validity may implement besides: it is given what Claim.Fail is given.
type Failer interface {
	Fail(err error)
}

// Instances is what a Validity may implement besides: it is given what Claim.ServedBy is given.
type Instances interface {
	ServedBy(instance string)
}

// Claim is the right to handle one resource, as long as it is valid. It is a value: copy it freely.
type Claim struct {
	App      string
	Member   string
	Resource Resource
	// Token is the fencing token: strictly greater at each new claim of the resource, whoever makes it. Pass it to
	// what the handler writes to, and let that refuse a token lower than the highest it has seen.
	Token int64

	validity Validity
}

// NewClaim makes a claim for the tests of a Handler. A nil validity makes one that is always valid.
func NewClaim(app, member string, r Resource, token int64, validity Validity) Claim {
	return Claim{App: app, Member: member, Resource: r, Token: token, validity: validity}
}

// Valid reports whether the claim is surely still this member's. It costs a clock reading: check before each side
// effect.
func (c Claim) Valid() bool { return c.Remaining() > 0 }

// Remaining is how long the claim is surely valid from now: at most the lease's TTL, and zero once the claim is not
// valid. It grows again each time the lease is renewed, also while the handling is being ended: it is zero once
// Terminate has returned. With KeepOnOutage it does not fall below half of the TTL until then: the claim is valid as
// far as this member can know.
func (c Claim) Remaining() time.Duration {
	if c.validity == nil {
		return time.Duration(1<<63 - 1)
	}
	return max(0, c.validity.Remaining())
}

// Report tells how the handling goes, once Handle has been called: an error makes the claim's state failed, with the
// error's text, for those who look (Assignment); nil makes the state active again. It changes nothing else: the
// resource stays this member's, and no method of the Handler is called because of it. It is for handlers that start
// over by themselves, such as handler.Loop and handler.Exec. It never blocks. What is reported after Terminate was
// called is ignored.
func (c Claim) Report(err error) {
	if r, ok := c.validity.(Reporter); ok {
		r.Report(err)
	}
}

// Fail says that what Handle began no longer works and cannot help itself (a connection that is wedged, say): Terminate
// is called, and then Handle again after a backoff, under the same claim. The claim's state is failed until that Handle
// succeeds, with the error's text; a nil error counts as "failed". A Fail soon after the last one counts as a further
// failure of Handle in a row: the backoff grows, and Config.HandleAttempts holds. After Config.HandleBackoffMax without
// a Fail both begin anew. It never blocks, and may be called from any goroutine, also while Handle or Update is still
// running: Terminate follows that call. After Terminate was called it is ignored.
func (c Claim) Fail(err error) {
	if f, ok := c.validity.(Failer); ok {
		f.Fail(err)
	}
}

// ServedBy says which instance of a service has what the Handle or Update in progress has begun or changed: any string
// that the service makes anew each time it starts. It is for a Handler that is Restartable, and to be called in each
// Handle and Update that the service has answered; in Terminate, it only says that this instance lives. It never
// blocks.
func (c Claim) ServedBy(instance string) {
	if s, ok := c.validity.(Instances); ok && instance != "" {
		s.ServedBy(instance)
	}
}

// String names the claim, without the resource's data.
func (c Claim) String() string {
	return fmt.Sprintf("claim of %s by member %q under token %d", c.Resource, excerpt.Of(c.Member), c.Token)
}

// Format prints what String says, whatever the verb.
func (c Claim) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, c.String()) // as package fmt does
}

// LogValue is for log/slog.
func (c Claim) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("app", c.App),
		slog.String("member", c.Member),
		slog.String("resource", c.Resource.ID),
		slog.Int64("token", c.Token),
	)
}
