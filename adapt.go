package drm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// What the user's code returns or panics with has methods, which are the user's code again: an Error method may panic
// (that of a nil pointer often does), block, or call back into the manager. So the goroutine that called the user's
// code takes down the text, under the limits of that call, and everyone else reads the text.

// toldError is an error of the user's code whose text has been taken down. It unwraps to that error, so that the user
// can test for it.
type toldError struct {
	text string
	err  error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

// told takes down the text of an error of the user's code. It is to be called in the goroutine that called that code.
func told(err error) error {
	switch err := err.(type) { //nolint:errorlint // these very types, whose methods are not the user's
	case nil:
		return nil
	case *toldError:
		return err
	case *PanicError:
		if err != nil && err.text != "" { // else newPanicError did not make it
			return err
		}
	}
	return &toldError{textOf(err), err}
}

// textOf returns the text of an error of the user's code, or what is wrong with its Error method.
func textOf(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			why := excerpt.Clip(usercode.PanicText(v), usercode.MaxText)
			text = fmt.Sprintf("an error of type %T, whose Error method panics: %s", err, why)
		}
	}()
	return excerpt.Clip(err.Error(), usercode.MaxText)
}

// isPanic says whether an error of the user's code stands for a panic.
func isPanic(err error) bool {
	return asked(func() bool {
		var p *PanicError
		return errors.As(err, &p)
	})
}

// matches says whether an error of the user's code matches one of DRM's.
func matches(err, target error) bool { return asked(func() bool { return errors.Is(err, target) }) }

// asked returns what an error of the user's code says of itself, and false where it panics. It is to be called where
// told is: an error's Unwrap, Is and As methods are the user's code too.
func asked(question func() bool) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return question()
}

// safely calls the user's code, turns a panic into a *PanicError, and takes down the text of what it returns. It does
// not return where the call ends its goroutine.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return told(f())
}

// newPanicError makes an error of what a recovered panic was about.
func newPanicError(v any) *PanicError {
	text := excerpt.Clip("panic: "+usercode.PanicText(v), usercode.MaxText)
	return &PanicError{Value: v, Stack: debug.Stack(), text: text}
}

// userHandler adapts a Handler to what package calls calls. Whatever the user's code does in a call, and whatever the
// methods of its errors do, happens here, in the goroutine and within the limits of that call.
type userHandler struct {
	handler     Handler
	app, member string
}

// Handle implements calls.Handler.
func (u userHandler) Handle(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Handle, func() error { return u.handler.Handle(ctx, u.claim(c)) })
}

// Update implements calls.Handler. It is called where isUpdater says yes.
func (u userHandler) Update(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Update, func() error { return u.handler.(Updater).Update(ctx, u.claim(c)) })
}

// Terminate implements calls.Handler.
func (u userHandler) Terminate(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Terminate, func() error { return u.handler.Terminate(ctx, u.claim(c)) })
}

// HandleFailed implements calls.Handler.
func (u userHandler) HandleFailed(ctx context.Context, c calls.Claim, err error) (panicked string) {
	return panicOf(func() { u.handler.HandleFailed(ctx, u.claim(c), err) })
}

// TerminateFailed implements calls.Handler.
func (u userHandler) TerminateFailed(ctx context.Context, c calls.Claim, err error) (panicked string) {
	return panicOf(func() { u.handler.TerminateFailed(ctx, u.claim(c), err) })
}

// Check implements calls.Handler. It is called where isChecker says yes.
func (u userHandler) Check(ctx context.Context, c calls.Claim) (got calls.Checked) {
	claim := u.claim(c)
	claim.validity = checking{handled{c.Of}, time.Now()}
	err := safely(func() error {
		err := u.handler.(Checker).Check(ctx, claim)
		got.Unsupported = err != nil && matches(err, errors.ErrUnsupported)
		return err
	})
	if got.OK = err == nil; !got.OK {
		got.Text = err.Error()
	}
	return got
}

// claim is what the user's code is given.
func (u userHandler) claim(c calls.Claim) Claim {
	r := Resource{ID: c.ID, Data: c.Data}
	return Claim{App: u.app, Member: u.member, Resource: r, Token: c.Token, validity: handled{c.Of}}
}

// handled makes a handling the Validity of its claim, which takes all that a Claim may be told.
type handled struct{ *calls.Handling }

// Report implements Reporter.
func (h handled) Report(err error) {
	if err == nil {
		h.Handling.Report(false, "")
		return
	}
	h.Handling.Report(true, textOf(err))
}

// Fail implements Failer.
func (h handled) Fail(err error) {
	if err == nil {
		h.Handling.Fail("failed")
		return
	}
	h.Handling.Fail(textOf(err))
}

// checking is the Validity of the claim of a check. An instance that answers a check need not have the resource.
type checking struct {
	handled
	began time.Time
}

// ServedBy implements Instances.
func (c checking) ServedBy(instance string) { c.Answered(instance, c.began) }

// answerOf calls the user's code, and takes down what it returns or panics with.
func answerOf(kind core.ActionKind, f func() error) (got calls.Answer) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			got = calls.Answer{Outcome: core.Panicked, Err: p, Text: p.Error()}
		}
	}()
	switch err := f(); {
	case err == nil:
		return calls.Answer{Outcome: core.OK}
	case isPanic(err):
		return calls.Answer{Outcome: core.Panicked, Err: err, Text: textOf(err)}
	case kind == core.Handle && matches(err, ErrOutcomeUnknown): // it may have begun
		return calls.Answer{Outcome: core.Unclear, Err: err, Text: textOf(err)}
	default:
		return calls.Answer{Outcome: core.Error, Err: err, Text: textOf(err)}
	}
}

// panicOf calls the user's code, and returns the text of its panic; "" where it returned.
func panicOf(f func()) string {
	if p := safely(func() error { f(); return nil }); p != nil {
		return p.Error()
	}
	return ""
}

// instanceOf returns the question which instance of the handler's service answers; nil if there is no such service.
func instanceOf(h Handler) func(context.Context) (string, error) {
	r, ok := h.(Restartable)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (instance string, err error) {
		err = safely(func() (err error) {
			instance, err = r.Instance(ctx)
			return err
		})
		return instance, err
	}
}

// budgetKey adapts Config.BudgetKey, which may be nil.
func budgetKey(f func(Resource) string) func(id string, data []byte) (string, error) {
	if f == nil {
		return nil
	}
	return func(id string, data []byte) (key string, err error) {
		err = safely(func() error {
			key = f(Resource{ID: id, Data: bytes.Clone(data)}) // the core's own data must not be changed
			return nil
		})
		return key, err
	}
}

func isUpdater(h Handler) bool {
	_, ok := h.(Updater)
	return ok
}

func isChecker(h Handler) bool {
	_, ok := h.(Checker)
	return ok
}

func finishesCalls(h Handler) bool {
	f, ok := h.(Finisher)
	return ok && f.FinishesCalls()
}

// userRetriever adapts a Retriever to what package source calls. Whatever the user's code does in a call, and whatever
// the methods of its errors do, happens here, in the goroutine and within the limits of that call.
type userRetriever struct {
	retriever Retriever
	api       API
}

// Setup implements source.Retriever.
func (u userRetriever) Setup(ctx context.Context) error {
	return safely(func() error { return u.retriever.Setup(ctx, u.api) })
}

// TearDown implements source.Retriever.
func (u userRetriever) TearDown(ctx context.Context) error {
	return safely(func() error { return u.retriever.TearDown(ctx) })
}

// Forget implements source.Retriever. Not every Retriever has it.
func (u userRetriever) Forget() error {
	f, ok := u.retriever.(Forgetter)
	if !ok {
		return nil
	}
	return safely(func() error { f.Forget(); return nil })
}

// Fetch implements source.Retriever.
func (u userRetriever) Fetch(ctx context.Context) (a source.Answer) {
	err := safely(func() error {
		a = fetched(u.retriever.Fetch(ctx))
		return nil
	})
	if err != nil { // it panicked
		return source.Answer{Failure: &source.Failure{Err: err}}
	}
	return a
}

// fetched takes down all that a Fetch has returned.
func fetched(resources []Resource, err error) source.Answer {
	if err == nil {
		return source.Answer{Items: fetchedItems{resources: resources}}
	}
	if bad, before := badItemsOf(err); bad != nil {
		return source.Answer{Items: fetchedItems{resources, bad}, Before: before}
	}
	if matches(err, ErrNotModified) {
		return source.Answer{Unchanged: true}
	}
	return source.Answer{Failure: judged(err)}
}

// judged takes down all that an error of Fetch has to say: Retryable, Is, As and Unwrap are the user's code, as Error
// is.
func judged(err error) *source.Failure {
	f := &source.Failure{Err: told(err)}
	_ = safely(func() error { // where one of them panics, the error has no advice
		var advice Retryable
		if errors.As(err, &advice) {
			after, again := advice.Retryable()
			f.Advised, f.After, f.Again = true, after, again
		}
		return nil
	})
	return f
}

// readyCheck adapts Config.Ready, which may be nil.
func readyCheck(f func(context.Context) error) func(context.Context) error {
	if f == nil {
		return nil
	}
	return func(ctx context.Context) error {
		restarted := false
		err := safely(func() error {
			err := f(ctx)
			restarted = matches(err, ErrServiceRestarted)
			return err
		})
		if restarted {
			return ready.ErrRestarted
		}
		return err
	}
}

// onSourceError adapts Config.OnSourceError, which may be nil.
func onSourceError(f func(error)) func(error) error {
	if f == nil {
		return nil
	}
	return func(err error) error { return safely(func() error { f(err); return nil }) }
}

// fetchedItems are the resources that a Fetch has returned, and what its error said is bad.
type fetchedItems struct {
	resources []Resource
	said      *BadItemsError
}

// Check implements source.Items.
func (f fetchedItems) Check() ([]catalogue.Item, source.BadItems) {
	items, bad := toItems(f.resources, f.said)
	return items, badItems{bad}
}

// badItems adapts a BadItemsError, the texts of whose errors have been taken down.
type badItems struct{ all *BadItemsError }

// errTooLarge is what is wrong with an item that etcd did not take. Its entry stays what it was.
var errTooLarge = errors.New("it does not fit into one request to etcd")

// Count implements source.BadItems.
func (b badItems) Count() int { return b.all.count }

// Digest implements source.BadItems.
func (b badItems) Digest() uint64 { return b.all.doubt }

// Keep implements source.BadItems.
func (b badItems) Keep() (ids map[string]struct{}, all bool) { return b.all.keep, b.all.keepAll }

// First implements source.BadItems.
func (b badItems) First() []source.BadItem {
	first := make([]source.BadItem, len(b.all.items))
	for i, item := range b.all.items {
		first[i] = source.BadItem{
			Index: item.Index, ID: item.ID, Error: item.Err.Error(), Text: item.describe(),
			TooLarge: item.Err == errTooLarge, //nolint:errorlint // this very one
		}
	}
	return first
}

// AddTooLarge implements source.BadItems.
func (b badItems) AddTooLarge(id string) { b.all.Add(BadItem{Index: -1, ID: id, Err: errTooLarge}) }

// AsError implements source.BadItems. The error has a copy of the items: the user may have it for long.
func (b badItems) AsError(text string) error {
	bad := b.all.told()
	return &toldError{excerpt.Clip(text+bad.Error(), usercode.MaxText), bad}
}

// toItems checks what a Retriever returned. What is not a resource is added to what the Retriever itself said is bad.
func toItems(resources []Resource, said *BadItemsError) (items []catalogue.Item, bad *BadItemsError) {
	bad = &BadItemsError{}
	if said != nil {
		bad = said
	}
	items = make([]catalogue.Item, len(resources)) // those of bad ones stay empty
	const piece = 10_000
	found := make([]BadItemsError, (len(resources)+piece-1)/piece) // by piece, so that bad is in the answer's order
	var checking errgroup.Group
	checking.SetLimit(runtime.GOMAXPROCS(0))
	for n := range found {
		checking.Go(func() error {
			for i := n * piece; i < min((n+1)*piece, len(resources)); i++ {
				r := &resources[i]
				object, err := r.checked()
				if err != nil {
					found[n].Add(BadItem{Index: i, ID: r.ID, Err: err}, idWithin(r.Data)...)
					continue
				}
				items[i] = catalogue.Item{ID: r.ID, Data: object}
			}
			return nil
		})
	}
	_ = checking.Wait() // what is bad is in found
	for n := range found {
		bad.merge(&found[n])
	}
	return withoutRepeats(items, bad), bad
}

// withoutRepeats returns the items whose ids are not empty, in their place. An item whose id another one before it has
// is left out, and added to bad.
func withoutRepeats(items []catalogue.Item, bad *BadItemsError) []catalogue.Item {
	type place struct{ good, index int }
	seen := make(map[string]place, len(items))
	good := 0
	for i, item := range items {
		if item.ID == "" {
			continue
		}
		if first, twice := seen[item.ID]; twice {
			want := fmt.Sprintf("an id that item %d does not have already", first.index)
			bad.Add(BadItem{
				Index: i, ID: item.ID, Repeats: bytes.Equal(item.Data, items[first.good].Data),
				Err: &InputError{Field: "id", Value: item.ID, Want: want},
			})
			continue
		}
		seen[item.ID] = place{good, i}
		items[good] = item
		good++
	}
	clear(items[good:])
	return items[:good]
}

// idWithin returns the id that an object has, if it has one that is legible.
func idWithin(text []byte) []string {
	if id, has, err := object.ID(text); has && err == nil {
		return []string{id}
	}
	return nil
}

// badItemsOf finds the BadItemsError of a Fetch, and what the errors around it say before its own text. Another error
// beside it would say that the answer is not whole, so it is looked for only in errors that wrap no other one. It is
// called like told, and what it returns has no code of the user's in it.
func badItemsOf(err error) (bad *BadItemsError, before string) {
	_ = safely(func() error {
		for inner := err; inner != nil; {
			if found, ok := inner.(*BadItemsError); ok { //nolint:errorlint // the loop unwraps
				if found != nil {
					bad, before = found.told(), beginningOf(textOf(err), textOf(found))
				}
				return nil
			}
			wrapper, ok := inner.(interface{ Unwrap() error })
			if !ok {
				return nil
			}
			inner = wrapper.Unwrap()
		}
		return nil
	})
	return bad, before
}

// beginningOf is what a text says before another one that it ends with.
func beginningOf(text, end string) string {
	if len(text) >= len(end) && text[len(text)-len(end):] == end {
		return text[:len(text)-len(end)]
	}
	return ""
}

// told is a copy, with the texts of the user's errors taken down.
func (e *BadItemsError) told() *BadItemsError {
	c := *e
	c.keep = maps.Clone(e.keep)
	c.items = slices.Clone(e.items)
	for i := range c.items {
		c.items[i].Err = told(c.items[i].Err)
	}
	return &c
}
