package retriever

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// fileQuiet is how long nothing must happen to a file before its change is told, so that several writes are one change.
	fileQuiet = 100 * time.Millisecond
	// fileLatest bounds that for a file that is written to without end.
	fileLatest = time.Second
	// fileLook is how often a file is looked at where its folder cannot be watched: it is not there yet, or the system
	// has no watches left.
	fileLook = time.Second
	// maxLinks is how many symbolic links may lead from one to the next; as Linux has it.
	maxLinks = 40
)

// fileWatch tells when a file may have other contents than before. What it watches are folders, that of the file and
// those of the symbolic links on the way to it: a watch of the file itself would stay with the old one when another is
// renamed over it. The events only say when to look; what is found then decides, unless one names the file or a link.
type fileWatch struct {
	path    string
	changed func()

	watcher *fsnotify.Watcher // nil where the system gives none
	names   []string          // of the file and the links that lead to it, as events call them
	last    os.FileInfo       // nil: there was none

	stop    chan struct{}
	stopped sync.WaitGroup
}

// watchFile begins to watch the file at an absolute path. changed is called from one goroutine, which ends with end.
func watchFile(path string, changed func()) *fileWatch {
	w := &fileWatch{path: path, changed: changed, stop: make(chan struct{})}
	_, complete := w.look()
	w.stopped.Go(func() { w.run(complete) })
	return w
}

// end ends the watching; changed is not called any more once it has returned.
func (w *fileWatch) end() {
	close(w.stop)
	w.stopped.Wait()
	w.close()
}

func (w *fileWatch) run(complete bool) {
	const never = time.Duration(1<<63 - 1)
	pause := func(complete bool) time.Duration {
		if complete {
			return never
		}
		return fileLook
	}
	timer := time.NewTimer(pause(complete))
	defer timer.Stop()
	touched := false
	var first time.Time // when the file was first touched since the last look
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
				w.watcher = nil // it failed for good; the next look makes another one
			} else if e.Op == fsnotify.Chmod {
				continue
			}
			touched = touched || slices.Contains(w.names, e.Name)
		case err := <-errs:
			touched = touched || err != nil // events were lost, perhaps those of the file
		case <-timer.C:
			differs, complete := w.look()
			if differs || touched {
				w.changed()
			}
			touched, first = false, time.Time{}
			timer.Reset(pause(complete))
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		timer.Reset(max(0, min(fileQuiet, fileLatest-time.Since(first))))
	}
}

// look sees to it that the right folders are watched, and then whether the file is another one than at the last look.
// In this order, whatever happens later makes an event. complete says whether all the folders are watched.
func (w *fileWatch) look() (differs, complete bool) {
	if w.watcher == nil {
		if watcher, err := fsnotify.NewWatcher(); err == nil {
			w.watcher = watcher
		}
	}
	names, complete := follow(w.path)
	w.names = names
	if !w.watchFolders(names) {
		complete = false
	}
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil
	}
	differs = (info == nil) != (w.last == nil) || info != nil &&
		(!os.SameFile(info, w.last) || info.Size() != w.last.Size() || !info.ModTime().Equal(w.last.ModTime()))
	w.last = info
	return differs, complete
}

// watchFolders watches the folders of the names and no others, and reports whether it could.
func (w *fileWatch) watchFolders(names []string) bool {
	if w.watcher == nil {
		return false
	}
	var folders []string
	for _, name := range names {
		folders = append(folders, filepath.Dir(name))
	}
	watched := w.watcher.WatchList()
	for _, folder := range watched {
		if !slices.Contains(folders, folder) {
			_ = w.watcher.Remove(folder) // it may be gone by itself
		}
	}
	all := true
	for _, folder := range folders {
		if !slices.Contains(watched, folder) && w.watcher.Add(folder) != nil {
			all = false
		}
	}
	return all
}

// follow walks to the file at an absolute path, and lists each symbolic link on the way, and in the end the file, each
// spelled without links. ok is false where the way ends before the file's own folder.
func follow(path string) (names []string, ok bool) {
	at, rest := start(path)
	for links := 0; len(rest) > 0; {
		name := filepath.Join(at, rest[0]) // also where that is "..", since at has no links
		rest = rest[1:]
		target, err := os.Readlink(name)
		if err != nil {
			if _, err := os.Lstat(name); err != nil && len(rest) > 0 {
				return names, false
			}
			at = name
			continue
		}
		names = append(names, name)
		if links++; links > maxLinks {
			return names, true // in a circle; turning one of them makes an event
		}
		var steps []string
		if filepath.IsAbs(target) {
			at, steps = start(target)
		} else {
			steps = split(target)
		}
		rest = slices.Concat(steps, rest)
	}
	return append(names, at), true
}

// start is the root that an absolute path begins at, and the steps from there.
func start(path string) (root string, steps []string) {
	volume := filepath.VolumeName(path)
	return volume + string(filepath.Separator), split(path[len(volume):])
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(path), "/"), func(s string) bool { return s == "" || s == "." })
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
	w.watcher = nil
}
