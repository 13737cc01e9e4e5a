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

// FileConfig says how to read a file. Zero values take the defaults.
type FileConfig struct {
	// MaxBytes and NumberIDs are as in DecodeOptions.
	MaxBytes  int64
	NumberIDs bool
	// Watch makes the file be read again soon after it changed, on the member that coordinates. Files that are renamed
	// over it count, and so do symbolic links that are turned elsewhere, such as those of a Kubernetes ConfigMap, and
	// folders above it that are replaced. Most changes are noticed within 0.2 s. Those of which the system tells
	// nothing (a folder above, a mount, a file that another machine wrote) are noticed within about 1 s, since the file
	// is looked at each second. Default false.
	Watch bool
}

func (c FileConfig) decodeOptions() DecodeOptions {
	return DecodeOptions{MaxBytes: c.MaxBytes, NumberIDs: c.NumberIDs}
}

// File is a source that is a file. Each Fetch reads it anew, so whoever changes it should write another file and rename
// that over it: a file that is read while it is being written looks cut off, which is an error.
type File struct {
	path string
	cfg  FileConfig

	mu    sync.Mutex
	watch *fileWatch // from Setup to TearDown, where it is wanted
}

var _ drm.Retriever = (*File)(nil)

// NewFile makes a source of a file, which need not be there yet. The error is a *drm.InputError that names the field.
func NewFile(path string, cfg FileConfig) (*File, error) {
	if path == "" {
		return nil, &drm.InputError{Field: "path", Value: path, Want: "the path of a file"}
	}
	if err := cfg.decodeOptions().check(); err != nil {
		return nil, err
	}
	return &File{path: path, cfg: cfg}, nil
}

// Setup begins to watch the file, if that is wanted. A File that watches is for one Manager: a second Setup before
// TearDown is an error.
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
	if err != nil { // also where it is only about some items
		var path *fs.PathError // names the file too
		if errors.As(err, &path) {
			err = path.Err
		}
		return resources, fmt.Errorf("reading %s: %w", f.path, err)
	}
	return resources, nil
}

func (f *File) read(ctx context.Context) ([]drm.Resource, error) {
	// Opening a pipe would wait for a writer, for ever perhaps.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no regular file, but %s", info.Mode())
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return Decode(&contextReader{ctx, file}, f.cfg.decodeOptions())
}

// TearDown ends the watching. It fails where a file system hangs until ctx ends; the watching ends when that answers.
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

// String names the file.
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
