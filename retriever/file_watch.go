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
	// fileQuiet is how long nothing must happen to a file before its change is told, so that several writes are one
	// change.
	fileQuiet = 100 * time.Millisecond
	// fileLatest bounds that for a file that is written to without end.
	fileLatest = time.Second
	// fileLook is how often a file is looked at without an event. Some changes make none: a folder above that is
	// replaced, another file system that is mounted there, a file on another machine, a system that has no watches
	// left.
	fileLook = time.Second
	// fileFresh is how young a file is whose next change may leave it the same time: file systems count in up to two
	// seconds.
	fileFresh = 2 * time.Second
	// maxForeign is how many events of other files may come between two looks. Where there are more, events cost more
	// than they bring: the folders are not watched for fileAlone, and looking has to do.
	maxForeign = 1000
	fileAlone  = time.Minute
	// maxLinks is how many symbolic links may lead from one to the next; as Linux has it.
	maxLinks = 40
)

// fileWatch tells when a file may have other contents than before. It looks at the file at intervals, and at once when
// an event names it or what leads to it. What it watches are folders, that of the file and those of the symbolic links
// on the way to it: a watch of the file itself would stay with the old one when another is renamed over it. What is
// found decides, unless an event names the file or a link.
type fileWatch struct {
	path    string
	changed func()

	watcher *fsnotify.Watcher      // nil where the system gives none
	alone   time.Time              // until then there is to be none
	folders map[string]os.FileInfo // those that are watched, as they were then
	names   []string               // of the file and the links that lead to it, as events call them
	last    os.FileInfo            // nil: there was none
	again   bool                   // what was found at the last look may have changed since under the same time
	touched bool                   // an event has named the file or a link since the last look
	foreign int                    // how many named others

	stop    chan struct{}
	stopped chan struct{}
}

// watchFile begins to watch the file at an absolute path. changed is called from one goroutine, which ends with end.
func watchFile(path string, changed func()) *fileWatch {
	w := &fileWatch{path: path, changed: changed, stop: make(chan struct{}), stopped: make(chan struct{})}
	w.look()
	w.again = false // whoever sets it up fetches after that
	go w.run()
	return w
}

// end ends the watching; changed is not called any more once it has returned. A file system that hangs may hold it up
// until ctx ends.
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
	var first time.Time // when there was first reason to look since the last look
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
				w.forget() // it failed for good; the next look makes another one
			} else if !w.event(e) {
				continue
			}
		case err := <-errs:
			if err == nil {
				continue
			}
			w.touched = true // events were lost, perhaps those of the file
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

// event takes in an event, and reports whether it is a reason to look.
func (w *fileWatch) event(e fsnotify.Event) bool {
	switch {
	case e.Op == fsnotify.Chmod:
		return false // the next look is soon enough
	case slices.Contains(w.names, e.Name):
		w.touched = true
		return true
	case w.folders[e.Name] != nil: // itself, not something in it
		return true
	}
	if w.foreign++; w.foreign < maxForeign {
		return false
	}
	w.touched = w.touched || w.fresh() // its own event may be among those that are given up
	w.leave()
	return true
}

func (w *fileWatch) ending() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// look sees to it that the right folders are watched, and then whether the file is another one than at the last look.
// In this order, whatever happens later makes an event.
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
	differs := (info == nil) != (w.last == nil) || info != nil &&
		(!os.SameFile(info, w.last) || info.Size() != w.last.Size() || !info.ModTime().Equal(w.last.ModTime()) || info.Mode() != w.last.Mode())
	w.last = info
	switch {
	case touched:
		w.again = false // events come, and the next one tells of the next change
	case differs:
		w.again = w.fresh()
	case w.again && !w.fresh():
		w.again, differs = false, true
	}
	return differs || touched
}

// fresh reports whether a change of the file right after the last look may have gone unseen in its time.
func (w *fileWatch) fresh() bool { return w.last != nil && time.Since(w.last.ModTime()) < fileFresh }

// leave gives the watches up for a while.
func (w *fileWatch) leave() {
	w.close()
	w.alone = time.Now().Add(fileAlone)
}

// watchFolders watches the folders of the names and no others, as far as it can.
func (w *fileWatch) watchFolders() {
	if w.watcher == nil {
		return
	}
	watched := map[string]os.FileInfo{}
	live := w.watcher.WatchList() // a folder that was removed or renamed is not in it any more
	for _, name := range w.names {
		folder := filepath.Dir(name)
		if watched[folder] != nil {
			continue
		}
		// It is looked at before it is watched: the other way about, one that is put there between the two would be
		// taken for the one that is watched.
		info, err := os.Stat(folder)
		if err != nil {
			continue
		}
		if before := w.folders[folder]; slices.Contains(live, folder) && before != nil && os.SameFile(before, info) {
			watched[folder] = before
			continue
		}
		if slices.Contains(live, folder) {
			_ = w.watcher.Remove(folder) // it may be gone by itself
		}
		if w.watcher.Add(folder) == nil {
			watched[folder] = info
		}
	}
	for _, folder := range live {
		if watched[folder] == nil {
			_ = w.watcher.Remove(folder) // likewise
		}
	}
	w.folders = watched
}

// follow walks to the file at an absolute path, and lists each symbolic link on the way, and in the end the file, each
// spelled without links. Where the way ends before the file's own folder, it has the links that there are.
func follow(path string) (names []string) {
	at, rest := start(path)
	for links := 0; len(rest) > 0; {
		name := filepath.Join(at, rest[0]) // also where that is "..", since at has no links
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
			return names // in a circle; turning one of them makes an event
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

// start is the root that an absolute path begins at, and the steps from there.
func start(path string) (root string, steps []string) {
	volume := filepath.VolumeName(path)
	return volume + string(filepath.Separator), split(path[len(volume):])
}

func split(path string) []string {
	return slices.DeleteFunc(
		strings.Split(filepath.ToSlash(path), "/"),
		func(s string) bool { return s == "" || s == "." },
	)
}

// close gives the watches back and waits for the goroutine of the watcher.
func (w *fileWatch) close() {
	if w.watcher == nil {
		return
	}
	_ = w.watcher.Close() // nothing is lost
	for range w.watcher.Events {
		continue // until it is closed
	}
	w.forget()
}

func (w *fileWatch) forget() { w.watcher, w.folders = nil, nil }
