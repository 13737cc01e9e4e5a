package drm

import (
	"context"
	"time"
)

// Retriever is a source of resources. Setup and TearDown run once on every member; Fetch runs on the coordinator
// only, one call at a time, between the two.
type Retriever interface {
	// Setup prepares the retriever. It may keep api and use it from any goroutine until TearDown has returned.
	Setup(ctx context.Context, api API) error
	// Fetch returns every resource that should be handled now, each id once. The catalogue then becomes what it
	// returned (allocated resources aside). An error leaves the catalogue as it is; so does ErrNotModified, which is
	// a success. Items that are no resources are told of by a *BadItemsError beside the good ones; so are resources whose
	// Validate fails, and ids that are there twice. One that does not return long after its
	// context has ended makes the member resign as coordinator, so that another one's Retriever is asked; what it returns
	// in the end is thrown away.
	Fetch(ctx context.Context) ([]Resource, error)
	// TearDown releases what Setup took. It is called after everything was terminated and Fetch has returned, unless that
	// ignores its context. It also follows a Setup that took longer than FetchTimeout, ignored its context, and succeeded
	// after all.
	TearDown(ctx context.Context) error
}

// Retryable is what an error of Fetch may implement, or wrap, to say what is to come of it; retriever.StatusError does. An
// error that does not is tried again, after 1, 2, 4, … s, within Config.FetchRetryBudget.
type Retryable interface {
	// Retryable returns again false where trying again would only meet the same error: the fetch then counts as failed
	// at once, and the next poll asks again. after is how long the source wants to be left alone: nothing makes it be
	// asked before, neither a retry, a poll, a Refetch nor another coordinator: it is kept in etcd. Where the budget does not last that long, the fetch has failed. 0 says
	// nothing; more than 24 h counts as 24 h.
	Retryable() (after time.Duration, again bool)
}

// API is what a Retriever may do besides answering Fetch. It is safe for use from any goroutine.
type API interface {
	// Allocate adds a resource to the catalogue, or changes its data. It returns once etcd has it.
	Allocate(ctx context.Context, r Resource) error
	// Deallocate takes a resource out. ErrNotFound says that there is none.
	Deallocate(ctx context.Context, id string) error
	// Refetch asks for Fetch to be called soon, because the source has news. It returns at once. A member that does not
	// coordinate only remembers it, should it be the next to do so: it is the coordinator's Retriever that is asked.
	Refetch()
}

// Forgetter is what a Retriever that answers ErrNotModified should have besides: Forget makes the next Fetch return
// everything. It is called when ErrNotModified is, or would be, about an answer that did not become the catalogue as a
// whole (it was refused, or came after FetchTimeout), or that is not the last one that did: another member's may be. The Fetch
// follows in the same goroutine, and both have FetchTimeout together. Where that returns ErrNotModified all the same, it failed.
type Forgetter interface {
	Forget()
}
