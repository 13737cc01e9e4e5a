package source

import (
	"context"
	"errors"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Forever turns a limit off.
const Forever = time.Duration(math.MaxInt64)

// Errors that users test for. The root package exports them, and documents them for users.
var (
	ErrNotModified = errors.New("source not modified")
	ErrFailed      = errors.New("the source cannot be had")
	ErrStopped     = errors.New("manager stopped")
	ErrLeftBehind  = errors.New("left behind")
)

// Retriever is the user's source. Whoever implements it recovers from panics of the user's code, and takes down what
// its errors have to say: their methods are the user's code too. All methods are called in goroutines of their own, in
// which such code may hang, or end its goroutine.
type Retriever interface {
	// Setup and TearDown return an error whose text is known, and which unwraps to the user's own.
	Setup(ctx context.Context) error
	TearDown(ctx context.Context) error
	// Forget makes the next Fetch return everything, also where nothing changed. It returns what it panicked with.
	Forget() error
	Fetch(ctx context.Context) Answer
}

// Answer is what a Fetch came to: Unchanged, a Failure, or Items.
type Answer struct {
	Items     Items
	Before    string   // what the error beside Items said ahead of its bad items, such as where the answer is from
	Unchanged bool     // nothing has changed since the answer before
	Failure   *Failure // nil where the fetch succeeded
}

// Failure is the error of a Fetch.
type Failure struct {
	Err error // its text is known; it unwraps to the user's own, which only the user looks into

	Advised bool          // the user's error says what is to come of it:
	After   time.Duration // how long the source wants to be left alone
	Again   bool          // whether to try again makes sense
}

// Items are those of an answer, which nobody has looked at yet.
type Items interface {
	// Check sorts the items. It takes a while where there are a million of them, and is called once, outside of
	// FetchTimeout.
	Check() ([]catalogue.Item, BadItems)
}

// BadItems are the items of an answer that are no resources. One goroutine at a time uses them.
type BadItems interface {
	Count() int
	// Digest tells sets of bad items apart, in whatever order the source has them.
	Digest() uint64
	// Keep returns the ids that the bad items may stand for, whose entries stay as they are, and whether they may stand
	// for any.
	Keep() (ids map[string]struct{}, all bool)
	// First returns the first of them.
	First() []BadItem
	// AddTooLarge adds an item that etcd did not take.
	AddTooLarge(id string)
	// AsError returns an error that tells the user of the bad items as they are now, after a text.
	AsError(text string) error
}

// BadItem is an item of an answer that is no resource.
type BadItem struct {
	Index    int    // its place in the answer, from 0; -1: not known
	ID       string // "" where it has none that could be a resource's
	Error    string // what is wrong with it
	TooLarge bool   // etcd did not take it
	Text     string // all of that, for people
}

// Hub is what follows keys in etcd, and lists them; a *follow.Hub.
type Hub interface {
	catalogue.Lister
	// Follow tells sink of the keys below a prefix until ctx ends.
	Follow(ctx context.Context, prefix string, sink follow.Sink)
}

// Options is what a Source needs. Nothing of it has a default.
type Options struct {
	Retriever Retriever // nil: the member has no source
	// OnError tells the user of a fetch that failed, or of bad items. It returns what the user's code panicked with.
	// nil: nobody is told.
	OnError func(err error) error

	FetchTimeout   time.Duration // bounds Fetch, Setup and TearDown
	RetryBudget    time.Duration // how long a fetch that fails is tried again; Forever: without end
	PollInterval   time.Duration // from one fetch to the next; 0: nothing polls the source
	SettleDelay    time.Duration // how long the membership must be quiet before it makes the source be asked
	CacheResources bool          // a change of membership does not make the source be asked
	Strict         bool          // one bad item refuses the whole answer
	ExitOnError    bool          // a source that failed for all of RetryBudget ends the member
	Removals       catalogue.Rules
	Gone           time.Duration // how long nobody may vouch for the source before it is gone; Forever: it never is
	CommandTimeout time.Duration // bounds each request to etcd

	Now  func() time.Duration // by a clock that goes on while the machine sleeps
	Wall func() time.Time     // is recorded, and shown to people

	KV      clientv3.KV // whose answers are checked
	Hub     Hub
	Layout  keys.Layout
	Store   *catalogue.Store
	Created int64 // the create revision of the app: orders from before are of another app

	Log      *zap.Logger
	Failures *failures.Log

	// FirstFetch is told, once or several times, that a start need not wait any more for the first fetch of a fresh
	// app, and with an error that it has failed.
	FirstFetch func(err error)
	// Fail is told that the member is to end because of an error.
	Fail func(err error)
	// Resign is told that a term is to end, so that another member asks the source. It must not wait for that end.
	Resign func(term int64)
	// FetchReturned is told whenever a Fetch has returned: whoever looks at Hangs may look again.
	FetchReturned func()
	// StepBack is told of each shard whether the member is not to own it for now, while it writes very much; nil: that
	// is over.
	StepBack func(from []bool)
	// Hurry is closed when the user's code is to be waited for no longer.
	Hurry <-chan struct{}
}
