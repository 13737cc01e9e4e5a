package retriever

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/distributed-resource-manager/drm"
)

// FileConfig configures NewFile. Zero values stand for the defaults.
type FileConfig struct {
	// MaxBytes and NumberIDs are as in DecodeOptions.
	MaxBytes  int64
	NumberIDs bool
	// Watch makes the coordinating member read the file again soon after a change. A change is also a file that is
	// renamed over it, a symbolic link on the way to it that gets another target (as in a Kubernetes ConfigMap), or a
	// folder above it that is replaced. Most changes are noticed within 0.2 s. The system does not report some of them
	// (a folder above, a mount, a write by another machine); they are noticed within about 1 s, because File looks at
	// the file each second. Default false.
	Watch bool
}

func (c FileConfig) decodeOptions() DecodeOptions {
	return DecodeOptions{MaxBytes: c.MaxBytes, NumberIDs: c.NumberIDs}
}

// File is a source that is a file. Each Fetch reads the whole file. To change the file, write another one and rename it
// over this one: a file that is read while it is being written looks cut off, which is an error.
type File struct {
	path string
	cfg  FileConfig

	mu    sync.Mutex
	watch *fileWatch // nil before Setup and after TearDown, and without cfg.Watch
}

var _ drm.Retriever = (*File)(nil)

// NewFile makes a source of a file, which need not exist yet. The error is a *drm.InputError that names the field.
func NewFile(path string, cfg FileConfig) (*File, error) {
	if path == "" {
		return nil, &drm.InputError{Field: "path", Value: path, Want: "the path of a file"}
	}
	if err := cfg.decodeOptions().check(); err != nil {
		return nil, err
	}
	return &File{path: path, cfg: cfg}, nil
}

// Setup begins to watch the file if FileConfig.Watch is set. Each Manager needs a File of its own then: a second Setup
// before TearDown is an error.
func (f *File) Setup(_ context.Context, api drm.API) error {
	if !f.cfg.Watch || api == nil {
		return nil
	}
	path, err := filepath.Abs(f.path)
	if err != nil {
		return fmt.Errorf("watching %s: %w", f.path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch != nil {
		return fmt.Errorf("watching %s: it is set up already; each Manager needs a File of its own", f.path)
	}
	f.watch = watchFile(path, api.Refetch)
	return nil
}

// Fetch reads the file. Its errors are those of Decode and of the file system; all name the file.
func (f *File) Fetch(ctx context.Context) ([]drm.Resource, error) {
	resources, err := f.read(ctx)
	if err != nil { // the whole answer is bad, or some of its items are
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err // without the name of the file, which comes below
		}
		return resources, fmt.Errorf("reading %s: %w", f.path, err)
	}
	return resources, nil
}

func (f *File) read(ctx context.Context) ([]drm.Resource, error) {
	// Opening a pipe would wait for a writer, perhaps for ever.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file: its mode is %s", info.Mode())
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	return Decode(&contextReader{ctx, file}, f.cfg.decodeOptions())
}

// TearDown ends the watching, and waits until it has ended. It fails if a file system hangs until ctx ends; the
// watching then ends when the file system answers.
func (f *File) TearDown(ctx context.Context) error {
	f.mu.Lock()
	watch := f.watch
	f.watch = nil
	f.mu.Unlock()
	if watch == nil {
		return nil
	}
	if err := watch.end(ctx); err != nil {
		return fmt.Errorf("ending the watch of %s: %w", f.path, err)
	}
	return nil
}

// String returns the path of the file.
func (f *File) String() string { return f.path }

// contextReader fails once its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
