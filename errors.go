package drm

import (
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/backup"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/member"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/internal/reshard"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// Errors that a caller can test for with errors.Is.
var (
	// ErrNotFound says that no such resource or member is known to the app.
	ErrNotFound = picture.ErrNotFound
	// ErrNoApp says that the app does not exist, and so none of its resources or members: it matches ErrNotFound too.
	// Start creates the app; so does an Allocate of a Client with ClientConfig.Create.
	ErrNoApp error = noApp{}
	// ErrLastMember says that a Drain would leave only members that are not ready (Config.Ready), or no member that
	// takes any resource, so that all drains would be ignored.
	ErrLastMember = order.ErrLastMember
	// ErrPinned says that a shard is pinned to a member, so that it cannot be moved.
	ErrPinned = order.ErrPinned
	// ErrCannotTake says that a member cannot be given shards now, for instance because it is drained or cordoned.
	ErrCannotTake = order.ErrCannotTake
	// ErrNoPlacer says that no live coordinator places shards, so that nobody would carry out a Rebalance.
	ErrNoPlacer = order.ErrNoPlacer
	// ErrChanged says that the group is not as it was at OrderOptions.IfRevision, so that an order was not given. The
	// text says what has changed.
	ErrChanged = order.ErrChanged
	// ErrUnreachable says that etcd did not answer in time. It may or may not have done what it was asked for.
	ErrUnreachable = etcd.ErrUnreachable
	// ErrConnectionInUse says that managers or clients use a Connection, so that it was not closed.
	ErrConnectionInUse = errors.New("the connection is in use")
	// ErrConnectionClosed says that a Connection was closed, so that nothing can be started on it.
	ErrConnectionClosed = errors.New("the connection is closed")
	// ErrQuota says that a resource would exceed what the app may have (MaxAppResources, MaxResourceBytes). A
	// *QuotaError has the numbers.
	ErrQuota = catalogue.ErrQuota
	// ErrIDInUse says that another live member of the app has the member id.
	ErrIDInUse = errors.New("member id in use")
	// ErrNotModified is what a Retriever's Fetch returns when the source says that nothing changed since the last
	// fetch that succeeded; the catalogue stays as it is, and the fetch counts as a success.
	ErrNotModified = source.ErrNotModified
	// ErrStoreRewound says that etcd went back to an older state (a restored snapshot) or is another cluster than
	// before. The member has stopped handling everything; it cannot go on.
	ErrStoreRewound = follow.ErrRewound
	// ErrAppGone says that the app's config key was deleted from etcd. Members claim nothing until they are restarted.
	ErrAppGone = appconfig.ErrGone
	// ErrSchema says that this program does not know the version of what is in etcd: that of the app, or of a live
	// member which is more than one step away from this program's. The text says which program to upgrade.
	// docs/upgrade.md has the rules.
	ErrSchema = appconfig.ErrSchema
	// ErrResharding says that the number of shards of the app is being changed, or that such a change was interrupted:
	// nothing can open the app. The text says how to finish it.
	ErrResharding = appconfig.ErrResharding
	// ErrUnfinished says that the app is being deleted, or loaded from a dump, or that this was interrupted: nothing
	// can open the app. The text says how to finish it.
	ErrUnfinished = appconfig.ErrUnfinished
	// ErrNotEmpty says that the app has something already, so that no dump can be loaded into it.
	ErrNotEmpty = backup.ErrNotEmpty
	// ErrBadDump says that a text is not a dump that is whole and unchanged, or not one that this program can load.
	ErrBadDump = errors.New("not a dump that can be loaded")
	// ErrRedacted says that a dump has no data of resources: DumpOptions.Data was not set. It matches ErrBadDump too.
	ErrRedacted = backup.ErrRedacted
	// ErrCompacted says that etcd has compacted the revision that was asked for, or the one at which everything was to
	// be read, before all of it was read.
	ErrCompacted = picture.ErrCompacted
	// ErrSameShards says that the app has the number of shards already that Client.Reshard was to give to it.
	ErrSameShards = reshard.ErrSame
	// ErrInUse says that members of the app live, or have left claims or reservations that live on for a while.
	ErrInUse = errors.New("the app is in use")
	// ErrSourceFailed, as Manager.Err, says that the member ended because its source failed for all of FetchRetryBudget
	// (ExitOnSourceError). As an error of Client.WaitRefetched, it says that the source failed.
	ErrSourceFailed = source.ErrFailed
	// ErrNoSource says that no live member of the app has a source, so that nobody would carry out an order about it.
	ErrNoSource = order.ErrNoSource
	// ErrNotAccepted says that the coordinator refused to make the removals that were held: others are held by now.
	ErrNotAccepted = order.ErrNotAccepted
	// ErrOrderExpired says that nobody has carried out an order about the source, or a Rebalance, within its life.
	ErrOrderExpired = picture.ErrOrderExpired
	// ErrSourceInUse says that the app has a source: a live member has a Retriever.
	ErrSourceInUse = errors.New("the app has a source")
	// ErrLeftBehind says that Stop left something behind when its time was over: calls that have not returned, or
	// claims that were not released.
	ErrLeftBehind = source.ErrLeftBehind
	// ErrOutcomeUnknown is for a Handler's own errors: a Handle whose error matches it may have begun the handling all
	// the same, so that Terminate follows. The errors of handler.Webhook match it where a request was sent and no
	// answer of the receiver came.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrNotHeld says that the member does not handle the resource under that token now: it never did, has let go of
	// it, or is ending it or beginning with it anew at this moment.
	ErrNotHeld = member.ErrNotHeld
	// ErrServiceRestarted is what Config.Ready returns where the service that does the handler's work can work, and was
	// restarted since the last time. It counts as a success, and everything that the member handles is handled again,
	// as Manager.Reannounce does it.
	ErrServiceRestarted = ready.ErrRestarted
	// ErrStopped is returned by calls on a Manager that has stopped.
	ErrStopped = source.ErrStopped
)

// Causes: why a context given to a Handler ended, as context.Cause tells it.
var (
	// CauseStopped: the manager is stopping.
	CauseStopped = calls.CauseStopped
	// CauseMoved: the resource's shard belongs to another member now.
	CauseMoved = calls.CauseMoved
	// CauseRemoved: the resource left the catalogue, or was deallocated.
	CauseRemoved = calls.CauseRemoved
	// CauseChanged: the resource's data changed, and the handler has no Update.
	CauseChanged = calls.CauseChanged
	// CauseFenced: the lease that guards the claim can no longer be trusted.
	CauseFenced = calls.CauseFenced
	// CauseClaimLost: the claim's key was deleted from etcd by someone else.
	CauseClaimLost = calls.CauseClaimLost
	// CauseTimeout: the call took longer than its timeout.
	CauseTimeout = calls.CauseTimeout
	// CauseGivenUp: a call of the resource did not return long after its context had ended. The claim is released,
	// unless Config.TerminatePolicy is HoldUntilTerminated; nothing that this Handle began may go on.
	CauseGivenUp = calls.CauseGivenUp
	// CauseTerminated: Terminate has returned; nothing that this Handle began may go on.
	CauseTerminated = calls.CauseTerminated
	// CauseServiceRestarted: the process that had what Handle began is gone (Restartable, Manager.Reannounce), and
	// Handle is called again. Terminate was not called. The claim stays valid until that Handle has succeeded, so that
	// what is left in this process may end in order; a Handle that meets it should wait for its end, as those of
	// handler.Loop and handler.Exec do.
	CauseServiceRestarted = calls.CauseGone
)

// notThereError makes an error of the catalogue match ErrNotFound, and says what that error says.
type notThereError struct{ err error }

func (e *notThereError) Error() string { return e.err.Error() }

// Unwrap returns the errors that it matches.
func (e *notThereError) Unwrap() []error { return []error{ErrNotFound, e.err} }

// noApp is ErrNoApp.
type noApp struct{}

func (noApp) Error() string { return "no such app" }

// Is makes errors.Is(ErrNoApp, ErrNotFound) hold.
func (noApp) Is(target error) bool { return target == ErrNotFound }

// WaitError is the error of a wait whose context ended. It says what was seen last, and unwraps to the context's cause.
type WaitError struct {
	What string // what was waited for, such as: resource "feed-42"
	Last string // why the wait had not ended at the last look; empty where no look succeeded
	Err  error  // the context's cause
}

func (e *WaitError) Error() string { return (*picture.WaitError)(e).Error() }

// Unwrap returns the context's cause.
func (e *WaitError) Unwrap() error { return e.Err }

// waitError makes the error of a wait whose context ended a WaitError, and returns others as they are.
func waitError(err error) error {
	if e := (*picture.WaitError)(nil); errors.As(err, &e) {
		return (*WaitError)(e)
	}
	return err
}

// InputError says which input from outside is wrong: a config field, a flag, an item of a source.
type InputError struct {
	Field string // the field, as its user spells it
	Value string // what the field has
	Want  string // what would be accepted
}

func (e *InputError) Error() string {
	return fmt.Sprintf("%s: got %q, want %s", e.Field, excerpt.Of(e.Value), e.Want)
}

// QuotaError says which quota a resource, or an answer of a source, would exceed. It matches ErrQuota.
type QuotaError struct {
	Field string // MaxAppResources or MaxResourceBytes
	Limit int    // the value of that field
	Count int    // how many resources there are (in an answer: would be), or how many bytes the resource has
}

func (e *QuotaError) Error() string { return (*catalogue.QuotaError)(e).Error() }

// Is makes errors.Is(err, ErrQuota) hold.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// IDInUseError says which live member has a member id that was asked for. It matches ErrIDInUse.
type IDInUseError struct {
	ID      string
	Address string
	Since   time.Time
}

func (e *IDInUseError) Error() string {
	from := e.Address
	if from == "" {
		from = "an unknown address"
	}
	return fmt.Sprintf("member id %q is in use since %s from %s", e.ID, e.Since.UTC().Format(time.RFC3339), from)
}

// Is makes errors.Is(err, ErrIDInUse) hold.
func (e *IDInUseError) Is(target error) bool { return target == ErrIDInUse }

// SourceInUseError says which live member has the source that Client.DropSource was to drop. It matches
// ErrSourceInUse.
type SourceInUseError struct {
	Member string // one of those that have a Retriever
}

func (e *SourceInUseError) Error() string { return (*order.SourceInUseError)(e).Error() }

// Is makes errors.Is(err, ErrSourceInUse) hold.
func (e *SourceInUseError) Is(target error) bool { return target == ErrSourceInUse }

// PanicError is the error of a call of a Handler or Retriever that panicked. Its text has the Value where that is an
// error, a Stringer, a string or a number. Of any other value, which may have a resource's data in it, the text has
// only the type.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked; not part of Error

	text string // of Error, taken down where Value was recovered: Value may have methods that block
}

func (e *PanicError) Error() string {
	if e.text == "" {
		return "panic: " + usercode.PanicText(e.Value)
	}
	return e.text
}
