package retriever

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// fileQuiet is how long nothing may happen to a file before its change is reported, so that several writes count as
	// one change.
	fileQuiet = 100 * time.Millisecond
	// fileLatest is the longest delay of that report, for a file that is written to all the time.
	fileLatest = time.Second
	// fileLook is how often the file is looked at without an event. Some changes cause no event: a folder above it is
	// replaced, another file system is mounted there, another machine writes the file, or the system has no watches
	// left.
	fileLook = time.Second
	// fileFresh is the age below which a file may change again without a new modification time: file systems count time
	// in steps of up to two seconds.
	fileFresh = 2 * time.Second
	// maxForeign is how many events about other files may come between two looks. If there are more, events cost more
	// than they are worth: the folders are not watched for fileAlone, and looks alone have to do.
	maxForeign = 1000
	fileAlone  = time.Minute
	// maxLinks is how many symbolic links are followed on the way to the file, as in Linux.
	maxLinks = 40
)

// fileWatch reports when a file may have other contents than before. It looks at the file at intervals, and soon after
// an event that names the file or a link to it. It watches folders: that of the file, and those of the symbolic links
// on the way to it. A watch of the file itself would stay with the old file when another one is renamed over it. The
// file counts as changed if a look finds it different, or if an event has named it or a link.
type fileWatch struct {
	path    string
	changed func()

	watcher *fsnotify.Watcher      // nil if the system gives none, or during fileAlone
	alone   time.Time              // the end of fileAlone
	folders map[string]os.FileInfo // the watched folders, as they were when the watch began
	names   []string               // the paths of the file and of the links that lead to it, as events name them
	last    os.FileInfo            // the file at the last look; nil if there was none
	again   bool                   // the file may have changed since the last look without a new modification time
	touched bool                   // an event has named the file or a link since the last look
	foreign int                    // how many events have named others since then

	stop    chan struct{}
	stopped chan struct{}
}

// watchFile begins to watch the file at an absolute path. changed is called from one goroutine, which end ends.
func watchFile(path string, changed func()) *fileWatch {
	w := &fileWatch{path: path, changed: changed, stop: make(chan struct{}), stopped: make(chan struct{})}
	w.look()
	w.again = false // the first Fetch comes after this look
	go w.run()
	return w
}

// end ends the watching. changed is not called after end has returned nil. If a file system hangs, end waits until ctx
// ends, and returns its cause.
func (w *fileWatch) end(ctx context.Context) error {
	close(w.stop)
	select {
	case <-w.stopped:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *fileWatch) run() {
	defer close(w.stopped)
	defer w.close()
	timer := time.NewTimer(fileLook)
	defer timer.Stop()
	var first time.Time // when the first event since the last look came
	for {
		var events <-chan fsnotify.Event
		var errs <-chan error
		if w.watcher != nil {
			events, errs = w.watcher.Events, w.watcher.Errors
		}
		select {
		case <-w.stop:
			return
		case e, ok := <-events:
			if !ok {
				w.forget() // the watcher has failed for good; the next look makes another one
			} else if !w.event(e) {
				continue
			}
		case err := <-errs:
			if err == nil {
				continue
			}
			w.touched = true // events were lost, perhaps one about the file
			w.leave()
		case <-timer.C:
			if w.look() && !w.ending() {
				w.changed()
			}
			first = time.Time{}
			timer.Reset(fileLook)
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		timer.Reset(max(0, min(fileQuiet, fileLatest-time.Since(first))))
	}
}

// event handles an event, and reports whether it is a reason to look at the file soon.
func (w *fileWatch) event(e fsnotify.Event) bool {
	switch {
	case e.Op == fsnotify.Chmod:
		return false // the next look is soon enough
	case slices.Contains(w.names, e.Name):
		w.touched = true
		return true
	case w.folders[e.Name] != nil: // about a watched folder itself, and not about a file in it
		return true
	}
	if w.foreign++; w.foreign < maxForeign {
		return false
	}
	w.touched = w.touched || w.fresh() // an event about the file may be among those that are lost now
	w.leave()
	return true
}

// ending reports whether end was called.
func (w *fileWatch) ending() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// look first makes sure that the right folders are watched, and then reports whether the file has changed since the
// last look. Because of this order, every later change causes an event.
func (w *fileWatch) look() (changed bool) {
	touched := w.touched
	w.touched, w.foreign = false, 0
	if w.watcher == nil && !time.Now().Before(w.alone) {
		if watcher, err := fsnotify.NewWatcher(); err == nil {
			w.watcher = watcher
		}
	}
	w.names = follow(w.path)
	w.watchFolders()
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil
	}
	differs := differ(info, w.last)
	w.last = info
	switch {
	case touched:
		w.again = false // events come, so there will be one about the next change
	case differs:
		w.again = w.fresh()
	case w.again && !w.fresh():
		w.again, differs = false, true
	}
	return differs || touched
}

// differ reports whether two looks at the file found different files or states; nil says that there was no file.
func differ(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return (a == nil) != (b == nil)
	}
	return !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) || a.Mode() != b.Mode()
}

// fresh reports whether the file may have changed right after the last look without a new modification time.
func (w *fileWatch) fresh() bool { return w.last != nil && time.Since(w.last.ModTime()) < fileFresh }

// leave ends the watches, for fileAlone.
func (w *fileWatch) leave() {
	w.close()
	w.alone = time.Now().Add(fileAlone)
}

// watchFolders makes the watcher watch the folders of w.names and no others, as far as the system allows.
func (w *fileWatch) watchFolders() {
	if w.watcher == nil {
		return
	}
	watched := map[string]os.FileInfo{}
	live := w.watcher.WatchList() // without folders that were removed or renamed
	for _, name := range w.names {
		folder := filepath.Dir(name)
		if watched[folder] != nil {
			continue
		}
		// The order matters. If the folder were watched first, another one that replaces it before the Stat would be
		// taken for the watched one.
		info, err := os.Stat(folder)
		if err != nil {
			continue
		}
		if before := w.folders[folder]; slices.Contains(live, folder) && before != nil && os.SameFile(before, info) {
			watched[folder] = before
			continue
		}
		if slices.Contains(live, folder) {
			_ = w.watcher.Remove(folder) // fails if the folder is gone
		}
		if w.watcher.Add(folder) == nil {
			watched[folder] = info
		}
	}
	for _, folder := range live {
		if watched[folder] == nil {
			_ = w.watcher.Remove(folder) // fails if the folder is gone
		}
	}
	w.folders = watched
}

// follow walks to the file at an absolute path. It returns the path of each symbolic link on the way and then that of
// the file, all of them without links. If a folder on the way is missing, it returns the links up to there.
func follow(path string) (names []string) {
	at, rest := start(path)
	for links := 0; len(rest) > 0; {
		name := filepath.Join(at, rest[0]) // correct even for "..", because at has no links
		rest = rest[1:]
		target, err := os.Readlink(name)
		if err != nil {
			if _, err := os.Lstat(name); err != nil && len(rest) > 0 {
				return names
			}
			at = name
			continue
		}
		names = append(names, name)
		if links++; links > maxLinks {
			return names // the links form a circle; a change of one of them causes an event
		}
		var steps []string
		if filepath.IsAbs(target) {
			at, steps = start(target)
		} else {
			steps = split(target)
		}
		rest = slices.Concat(steps, rest)
	}
	return append(names, at)
}

// start splits an absolute path into its root and the steps from there.
func start(path string) (root string, steps []string) {
	volume := filepath.VolumeName(path)
	return volume + string(filepath.Separator), split(path[len(volume):])
}

// split returns the steps of a path, without those that lead nowhere.
func split(path string) []string {
	staysPut := func(step string) bool { return step == "" || step == "." }
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(path), "/"), staysPut)
}

// close ends all watches and waits for the goroutine of the watcher.
func (w *fileWatch) close() {
	if w.watcher == nil {
		return
	}
	_ = w.watcher.Close() // an error does not matter: the watcher is not used any more
	for range w.watcher.Events {
		continue // until the goroutine closes it
	}
	w.forget()
}

// forget drops a watcher that has ended.
func (w *fileWatch) forget() { w.watcher, w.folders = nil, nil }
