package retriever

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

func putFile(t testing.TB, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// looker calls look by hand, because a test cannot wait for a change that must not be reported.
func looker(t testing.TB, path string) *fileWatch {
	w := &fileWatch{path: path}
	w.look()
	t.Cleanup(w.close)
	return w
}

func TestOtherFilesOfAFolderDoNotChangeAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.json")
	w := looker(t, path)
	if w.folders[dir] == nil {
		t.Error("the folder is there, and is not watched")
	}
	putFile(t, filepath.Join(dir, "other"), "x")
	if w.look() {
		t.Error("another file changed this one")
	}
	putFile(t, path, "x")
	if !w.look() {
		t.Error("the file was made, and looks as before")
	}
	if w.look() {
		t.Error("nothing happened, and the file looks changed")
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if !w.look() {
			t.Error("others may read the file now, and it looks as before")
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if !w.look() || w.folders[dir] != nil {
		t.Errorf("the folder is gone: watched are %v", w.folders)
	}
}

func TestEventsOfOtherFilesAreNoReasonToLook(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.json")
	w := looker(t, path)
	for range maxForeign - 1 {
		if w.event(fsnotify.Event{Name: filepath.Join(dir, "other"), Op: fsnotify.Write}) {
			t.Fatal("another file was written, and this one is looked at")
		}
	}
	if !w.event(fsnotify.Event{Name: path, Op: fsnotify.Write}) ||
		!w.event(fsnotify.Event{Name: dir, Op: fsnotify.Rename}) {
		t.Error("the file was written, or the folder renamed, and it is not looked at")
	}
	if !w.look() || w.watcher == nil {
		t.Error("the file was written, and no change is told; or it is not watched any more")
	}

	// Too many events come. One about the file may be lost among them, so a change is reported.
	putFile(t, path, "x")
	w.look()
	reasons := 0
	for range maxForeign {
		if w.event(fsnotify.Event{Name: filepath.Join(dir, "other"), Op: fsnotify.Write}) {
			reasons++
		}
	}
	if reasons != 1 || w.watcher != nil || !w.look() || w.watcher != nil {
		t.Errorf("after %d events of others: %d reasons to look, watched: %t", maxForeign, reasons, w.watcher != nil)
	}
	w.alone = time.Now() // as if fileAlone were over
	if w.look(); w.watcher == nil || w.folders[dir] == nil {
		t.Error("the folder is not watched again")
	}
}

// TestAFolderThatIsReplacedIsWatchedAnew: the watch of a folder reports nothing when a folder above it is renamed.
func TestAFolderThatIsReplacedIsWatchedAnew(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a watched folder cannot be renamed")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	for _, d := range []string{dir, filepath.Join(root, "new", "b")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w := looker(t, filepath.Join(dir, "list.json"))
	before := w.folders[dir]
	for _, r := range [][2]string{{"a", "old"}, {"new", "a"}} {
		if err := os.Rename(filepath.Join(root, r[0]), filepath.Join(root, r[1])); err != nil {
			t.Fatal(err)
		}
	}
	w.look()
	if after := w.folders[dir]; after == nil || os.SameFile(before, after) {
		t.Error("the watch is still of the old folder")
	}
	putFile(t, filepath.Join(dir, "list.json"), "x")
	deadline := time.After(20 * time.Second)
	for told := false; !told; {
		select {
		case e := <-w.watcher.Events:
			told = e.Name == w.path
		case <-deadline:
			t.Fatal("no event tells of the file in the new folder")
		}
	}
}

// TestAYoungFileIsToldOfTwice: without events, a change right after one that was seen may leave no trace.
func TestAYoungFileIsToldOfTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.json")
	w := looker(t, path)
	age := func(d time.Duration) {
		t.Helper()
		at := time.Now().Add(-d)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, path, "x")
	age(-time.Hour) // so that it stays young
	if !w.look() || w.look() || !w.again {
		t.Error("a young file is not told of once, and then held to be young")
	}
	age(time.Hour)
	w.last, _ = os.Stat(path) // as if the file had not changed, but only grown older
	if !w.look() || w.look() {
		t.Error("a file that was young is not told of once more, and no more")
	}
	w.touched = true
	putFile(t, path, "xy")
	if !w.look() || w.again {
		t.Error("a change of which an event told needs nothing more")
	}
}

func BenchmarkLook(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "a", "b", "c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "list.json")
	putFile(b, path, "x")
	w := looker(b, path)
	for b.Loop() {
		w.look()
	}
}
