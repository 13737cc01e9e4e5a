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
	ErrFailed      = errors.New("cannot fetch from the source")
	ErrStopped     = errors.New("manager stopped")
	ErrLeftBehind  = errors.New("left behind")
)

// Retriever adapts the user's source. Its implementation recovers from panics of the user's code, and takes the texts
// of the user's errors, whose methods are the user's code too. All methods are called in goroutines of their own, in
// which such code may hang, or end its goroutine.
type Retriever interface {
	// Setup and TearDown return an error whose text was taken already. It unwraps to the user's own error.
	Setup(ctx context.Context) error
	TearDown(ctx context.Context) error
	// Forget makes the next Fetch return everything, even if nothing has changed. Its error says that it panicked.
	Forget() error
	Fetch(ctx context.Context) Answer
}

// Answer is the result of a Fetch: Unchanged, a Failure, or Items.
type Answer struct {
	Items     Items
	Before    string   // the text before the bad items in the error that came with Items, such as where they are from
	Unchanged bool     // nothing has changed since the last answer
	Failure   *Failure // nil if the fetch succeeded
}

// Failure is the error of a Fetch.
type Failure struct {
	Err error // its text was taken already; it unwraps to the user's own error, which only the user may look into

	Advised bool          // the user's error gives advice, in Again
	After   time.Duration // for how long the source wants to be left alone; 0: it does not say
	Again   bool          // whether it makes sense to try again before the next poll
}

// Items are the items of an answer, not checked yet.
type Items interface {
	// Check separates resources from bad items. It may take long for a million items. It is called once, and its time
	// does not count as part of FetchTimeout.
	Check() ([]catalogue.Item, BadItems)
}

// BadItems are the items of an answer that are no resources. One goroutine at a time uses them.
type BadItems interface {
	Count() int
	// Digest identifies the set of bad items, in whatever order the source returns them.
	Digest() uint64
	// Keep returns the ids that the bad items may stand for, whose entries must stay as they are. all says that they
	// may stand for any id.
	Keep() (ids map[string]struct{}, all bool)
	// First returns the first bad items, as many as are kept.
	First() []BadItem
	// AddTooLarge adds an item that etcd refused because of its size.
	AddTooLarge(id string)
	// AsError returns an error for the user, which lists the bad items as they are now after a text.
	AsError(text string) error
}

// BadItem is an item of an answer that is no resource.
type BadItem struct {
	Index    int    // its index in the answer; -1: not known
	ID       string // its id; "" if it has none that could be a resource's
	Error    string // what is wrong with it
	TooLarge bool   // etcd refused it because of its size
	Text     string // all of this in one text, for people
}

// Hub follows keys in etcd, and lists them. *follow.Hub implements it.
type Hub interface {
	catalogue.Lister
	// Follow passes the keys below a prefix, and their changes, to sink until ctx ends.
	Follow(ctx context.Context, prefix string, sink follow.Sink)
}

// Options is what a Source needs. No field has a default.
type Options struct {
	Retriever Retriever // nil: the member has no source
	// OnError tells the user of a fetch that failed, or of bad items. Its error says that the user's code panicked.
	// Nil: the user is not told.
	OnError func(err error) error

	FetchTimeout   time.Duration // bounds Fetch, Setup and TearDown
	RetryBudget    time.Duration // how long a fetch that fails is tried again; Forever: no limit
	PollInterval   time.Duration // from one fetch to the next; 0: nothing polls the source
	SettleDelay    time.Duration // how long the membership must be quiet after a change until the source is asked
	CacheResources bool          // a change of membership does not make the coordinator ask the source
	Strict         bool          // one bad item refuses the whole answer
	ExitOnError    bool          // a source that failed for all of RetryBudget ends the member
	Removals       catalogue.Rules
	Gone           time.Duration // how long nobody may vouch for the source until it is gone; Forever: it never is
	CommandTimeout time.Duration // bounds each request to etcd

	Now  func() time.Duration // by a clock that goes on while the machine sleeps
	Wall func() time.Time     // recorded in etcd, and shown to people

	KV      clientv3.KV // checks answers for an etcd that went back in time
	Hub     Hub
	Layout  keys.Layout
	Store   *catalogue.Store
	Created int64 // the create revision of the app; earlier orders are for another app

	Log      *zap.Logger
	Failures *failures.Log

	// FirstFetch is called when a start need not wait any more for the first fetch of a fresh app, with an error if
	// that has failed. It may be called several times.
	FirstFetch func(err error)
	// Fail is called when the member has to end because of an error.
	Fail func(err error)
	// Resign is called when a term has to end, so that another member asks the source. It must not wait for that end.
	Resign func(term int64)
	// FetchReturned is called whenever a Fetch has returned, so that Hangs may have changed.
	FetchReturned func()
	// StepBack is called with the shards that the member must not own while it writes a very large answer, and with nil
	// when that is over.
	StepBack func(from []bool)
	// Place is called before the first answer of a fresh app becomes the catalogue, if the catalogue has no entry yet.
	// It places the shards by what they are going to weigh; it need not succeed, and takes a moment at most.
	Place func(ctx context.Context, items []catalogue.Item)
	// Hurry is closed when nobody may wait for the user's code any longer.
	Hurry <-chan struct{}
}
