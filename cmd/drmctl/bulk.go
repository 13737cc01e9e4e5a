package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/retriever"
)

const (
	flagFile      = "file"
	flagNumberIDs = "number-ids"

	stdinFile = "-" // stands for stdin
)

func fileFlag(command, usage string) cli.Flag {
	return &cli.StringFlag{
		Name: flagFile, Aliases: []string{"f"}, EnvVars: commandEnv(command, flagFile), Usage: usage,
	}
}

func numberIDsFlag(command string) cli.Flag {
	return &cli.BoolFlag{
		Name: flagNumberIDs, EnvVars: commandEnv(command, flagNumberIDs),
		Usage: "take ids in JSON that are whole numbers, as strings",
	}
}

// bulkInput returns the file that a command is to take many things from, or "" if it is about one thing.
func bulkInput(c *cli.Context) (string, error) {
	file := c.String(flagFile)
	if !typed(c, flagFile) && (typed(c, flagID) || typed(c, flagData)) {
		file = "" // it is in the environment, which serves many commands
	}
	switch isStdin := c.NArg() == 1 && c.Args().First() == stdinFile; {
	case isStdin && typed(c, flagFile) && file != stdinFile:
		return "", usagef("--%s does not go with the argument -, which is stdin", flagFile)
	case isStdin:
		file = stdinFile
	case typed(c, flagFile) && c.NArg() > 0:
		return "", usagef("%s takes no argument beside --%s, got %q", commandName(c), flagFile, c.Args().First())
	case c.NArg() > 0:
		return "", nil // the file is in the environment
	}
	if file == "" {
		others := []string{flagFile}
		if spelled(c, flagData) {
			others = append(others, flagData)
		}
		return "", onlyWith(c, flagNumberIDs, others...)
	}
	for _, other := range []string{flagID, flagData, flagWait, flagWaitTimeout} {
		if typed(c, other) {
			return "", usagef("--%s is about one resource, and does not go with --%s", other, flagFile)
		}
	}
	return file, nil
}

// openInput opens a file, or stdin, whose reads end when ctx does.
func openInput(ctx context.Context, c *cli.Context, name string) (io.Reader, func(), error) {
	if name == stdinFile {
		return interruptible(ctx, c.App.Reader), func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, usagef("--%s: %w", flagFile, err)
	}
	return f, func() { _ = f.Close() }, nil
}

// interruptible makes a reader whose reads end when ctx does. A read that is in progress then goes on in the
// background: nothing can end one of a terminal or a pipe, and the process is about to end.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	chunks := make(chan chunk)
	go func() {
		for {
			b := make([]byte, 64<<10)
			n, err := r.Read(b)
			select {
			case chunks <- chunk{b[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return &chunkReader{ctx: ctx, chunks: chunks}
}

// chunk is what a read has read.
type chunk struct {
	text []byte
	err  error
}

type chunkReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no context
	chunks <-chan chunk
	rest   chunk
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest.text) == 0 {
		if r.rest.err != nil {
			return 0, r.rest.err
		}
		select {
		case r.rest = <-r.chunks:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	n := copy(p, r.rest.text)
	r.rest.text = r.rest.text[n:]
	return n, nil
}

// mostFailures is how many failures the outcome of a bulk names.
const mostFailures = 100

// failureJSON is part of the JSON contract.
type failureJSON struct {
	Line  int    `json:"line"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

// bulk counts what becomes of the lines of an input.
type bulk struct {
	c     *cli.Context
	verb  string
	lines iter.Seq2[retriever.Line, error]

	open       map[int]int // the lines of what is in progress, by its index
	done       int
	notThere   int
	failed     int
	overQuota  int
	failures   []failureJSON
	inputError error
}

// resources are the good ones among the lines.
func (b *bulk) resources(yield func(drm.Resource) bool, started func(line int), bad func(retriever.Line)) {
	for line, err := range b.lines {
		switch {
		case err != nil:
			b.inputError = err
			return
		case line.Err != nil:
			bad(line)
		default:
			started(line.Number)
			if !yield(line.Resource) {
				return
			}
		}
	}
}

// fail counts and tells a failure.
func (b *bulk) fail(line int, id string, err error) {
	b.failed++
	if errors.Is(err, drm.ErrQuota) {
		b.overQuota++
	}
	text := output.Line(err.Error())
	if len(b.failures) < mostFailures {
		b.failures = append(b.failures, failureJSON{line, id, text})
	}
	if id == "" {
		note(b.c, "line %d: %s", line, text)
	} else {
		note(b.c, "line %d: %q: %s", line, id, text)
	}
}

// run does something with all lines: do gets the resources, and tells the outcome of each.
func (b *bulk) run(do func(resources iter.Seq[drm.Resource], told func(drm.BulkOutcome)) error) error {
	b.open, b.failures = map[int]int{}, []failureJSON{}
	var mu sync.Mutex // the lines are read in another goroutine than the outcomes are told in
	locked := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	next := 0
	return do(func(yield func(drm.Resource) bool) {
		b.resources(yield, func(line int) {
			locked(func() { b.open[next] = line; next++ })
		}, func(bad retriever.Line) {
			locked(func() { b.fail(bad.Number, bad.Resource.ID, bad.Err) })
		})
	}, func(o drm.BulkOutcome) {
		locked(func() {
			line := b.open[o.Index]
			delete(b.open, o.Index)
			switch {
			case o.Err == nil:
				b.done++
			case b.verb == "deallocated" && errors.Is(o.Err, drm.ErrNotFound):
				b.notThere++
			default:
				b.fail(line, o.ID, o.Err)
			}
		})
	})
}

// end shows the outcome. err is why the run ended early; nil: it did not.
func (b *bulk) end(err error, outcome func(complete bool) any) error {
	if err == nil && b.inputError != nil {
		err = fmt.Errorf("--%s: %w", flagFile, b.inputError)
	}
	shown := show(b.c, outcome(err == nil), "", func(p *output.Page) {
		words := []string{fmt.Sprintf("%s %d", b.verb, b.done)}
		if b.notThere > 0 {
			words = append(words, fmt.Sprintf("not there %d", b.notThere))
		}
		if b.failed > 0 {
			words = append(words, fmt.Sprintf("failed %d", b.failed))
		}
		p.Line("%s", strings.Join(words, ", "))
	})
	switch {
	case err != nil:
		return errors.Join(fmt.Errorf("%w; %s", err, b.progress()), shown)
	case b.failed > 0 && b.failed == b.overQuota:
		return errors.Join(fmt.Errorf("not %s: %d resources: %w", b.verb, b.failed, drm.ErrQuota), shown)
	case b.failed > 0:
		return errors.Join(fmt.Errorf("not %s: %d", b.verb, b.failed), shown)
	default:
		return shown
	}
}

// progress says how far a run came that ended early.
func (b *bulk) progress() string {
	text := fmt.Sprintf("by then it had %s %d", b.verb, b.done)
	if len(b.open) > 0 {
		var first []int
		for _, line := range b.open {
			first = append(first, line)
		}
		text += fmt.Sprintf(", and it is not known of %d from line %d on", len(b.open), slices.Min(first))
	}
	return text + "; run it again, which does the rest"
}

// bulkAllocatedJSON is part of the JSON contract.
type bulkAllocatedJSON struct {
	Resources int           `json:"resources"`
	Failed    int           `json:"failed"`
	Complete  bool          `json:"complete"`
	Failures  []failureJSON `json:"failures"`
}

// allocateMany allocates what a file has.
func allocateMany(c *cli.Context, cfg drm.ClientConfig, file string) error {
	in, done, err := openInput(c.Context, c, file)
	if err != nil {
		return err
	}
	defer done()
	b := bulk{c: c, verb: "allocated"}
	b.lines = retriever.Lines(in, retriever.DecodeOptions{NumberIDs: c.Bool(flagNumberIDs)})
	// The command timeout bounds each request. It does not bound how long the input takes.
	return withClientOf(c, cfg, func(_ context.Context, client *drm.Client) error {
		err := b.run(func(all iter.Seq[drm.Resource], told func(drm.BulkOutcome)) error {
			return client.AllocateAll(c.Context, all, told)
		})
		if errors.Is(err, drm.ErrNoApp) || errors.As(err, new(*drm.InputError)) {
			return allocateError(c, err)
		}
		return b.end(err, func(complete bool) any {
			return bulkAllocatedJSON{b.done, b.failed, complete, b.failures}
		})
	})
}

// bulkDeallocatedJSON is part of the JSON contract.
type bulkDeallocatedJSON struct {
	Resources int           `json:"resources"`
	NotThere  int           `json:"not_there"`
	Failed    int           `json:"failed"`
	Complete  bool          `json:"complete"`
	Failures  []failureJSON `json:"failures"`
}

// deallocateMany deallocates the ids that a file has.
func deallocateMany(c *cli.Context, file string) error {
	in, done, err := openInput(c.Context, c, file)
	if err != nil {
		return err
	}
	defer done()
	b := bulk{c: c, verb: "deallocated"}
	b.lines = retriever.IDLines(in, retriever.DecodeOptions{NumberIDs: c.Bool(flagNumberIDs)})
	return withClient(c, func(_ context.Context, client *drm.Client) error {
		err := b.run(func(all iter.Seq[drm.Resource], told func(drm.BulkOutcome)) error {
			return client.DeallocateAll(c.Context, func(yield func(string) bool) {
				all(func(r drm.Resource) bool { return yield(r.ID) })
			}, told)
		})
		if errors.Is(err, drm.ErrNoApp) {
			return err
		}
		return b.end(err, func(complete bool) any {
			return bulkDeallocatedJSON{b.done, b.notThere, b.failed, complete, b.failures}
		})
	})
}
