package retriever_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// patience bounds every wait of these tests. It is long because test machines can be slow.
const patience = 20 * time.Second

// askedAgain is a drm.API that counts calls of Refetch.
type askedAgain struct {
	drm.API
	asked chan struct{}
}

func (a *askedAgain) Refetch() { a.asked <- struct{}{} }

// watched is a File that watches its file.
type watched struct {
	t    *testing.T
	path string
	api  *askedAgain
	file *retriever.File
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	f, err := retriever.NewFile(path, retriever.FileConfig{Watch: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t, path, &askedAgain{asked: make(chan struct{}, 1000)}, f}
	if err := f.Setup(t.Context(), w.api); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.TearDown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// has waits until a change of the file was reported and Fetch returns one resource with that id. The first report may
// be about an earlier change.
func (w *watched) has(id string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case <-w.api.asked:
		case <-deadline:
			w.t.Fatalf("%s has %s, and the source was not asked again", w.path, id)
		}
		if got, err := w.file.Fetch(w.t.Context()); err == nil && len(got) == 1 && got[0].ID == id {
			return
		}
	}
}

func answer(id string) string { return fmt.Sprintf(`{"data":[{"id":%q}]}`, id) }

func put(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// swap replaces a file by another one in one step.
func swap(t *testing.T, path, body string) {
	t.Helper()
	put(t, path+".new", body)
	rename(t, path+".new", path)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("symbolic links need a privilege: ", err)
		}
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestAWatchedFileIsReadAgainHoweverItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.json")
	w := watch(t, path)
	put(t, path, answer("made"))
	w.has("made")
	put(t, path, answer("written"))
	w.has("written")
	for i := range 3 { // a watch of the file itself would stay with the first one
		id := fmt.Sprintf("renamed-%d", i)
		swap(t, path, answer(id))
		w.has(id)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.api.asked:
	case <-time.After(patience):
		t.Fatal("the file is gone, and the source was not asked again")
	}
	put(t, path, answer("again"))
	w.has("again")
}

// TestAWatchedConfigMapIsReadAgain does what Kubernetes does. The file is a link into ..data, and ..data is a link that
// gets another folder as its target.
func TestAWatchedConfigMapIsReadAgain(t *testing.T) {
	volume := t.TempDir()
	folder := func(n int) string { return filepath.Join(volume, fmt.Sprintf("..version-%d", n)) }
	publish := func(n int, id string) {
		mkdir(t, folder(n))
		put(t, filepath.Join(folder(n), "list.json"), answer(id))
		link(t, filepath.Base(folder(n)), filepath.Join(volume, "..data_tmp"))
		rename(t, filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data"))
		if err := os.RemoveAll(folder(n - 1)); err != nil {
			t.Fatal(err)
		}
	}
	publish(0, "first")
	path := filepath.Join(volume, "list.json")
	link(t, filepath.Join("..data", "list.json"), path)
	w := watch(t, path)
	for n := 1; n < 4; n++ {
		id := fmt.Sprintf("version-%d", n)
		publish(n, id)
		w.has(id)
	}
}

func TestAFileBehindLinksIsWatchedWhereItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two", "three"} {
		mkdir(t, filepath.Join(dir, name))
		put(t, filepath.Join(dir, name, "list.json"), answer(name))
	}
	turn := func(target, name string) {
		link(t, target, filepath.Join(dir, "tmp"))
		rename(t, filepath.Join(dir, "tmp"), filepath.Join(dir, name))
	}
	turn("one", "current")                                    // a link to a folder
	turn(filepath.Join(dir, "current", "list.json"), "first") // an absolute link
	turn("first", "list.json")
	w := watch(t, filepath.Join(dir, "list.json"))

	swap(t, filepath.Join(dir, "one", "list.json"), answer("renamed"))
	w.has("renamed")
	turn("two", "current")
	w.has("two")
	put(t, filepath.Join(dir, "two", "list.json"), answer("written"))
	w.has("written")
	turn(filepath.Join("three", "list.json"), "first")
	w.has("three")
	turn("list.json", "first") // links in a circle
	turn(filepath.Join(".", "one", "..", "one", "list.json"), "list.json")
	w.has("renamed")
}

func TestAWatchedFilesFolderMayComeAndGo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a watched folder cannot be renamed")
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "list.json")
	w := watch(t, path)
	for _, id := range []string{"made", "made-again"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, path, answer(id))
		w.has(id)
		put(t, path, answer(id+"-written"))
		w.has(id + "-written")
		if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, filepath.Dir(dir))
	mkdir(t, dir+"2")
	put(t, filepath.Join(dir+"2", "list.json"), answer("moved"))
	rename(t, dir+"2", dir)
	w.has("moved")
	rename(t, dir, dir+"3")
	mkdir(t, dir)
	put(t, path, answer("replaced"))
	w.has("replaced")
}

// TestAFoldersParentsMayBeReplaced: the watch of the file's own folder reports no such change.
func TestAFoldersParentsMayBeReplaced(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a watched folder cannot be renamed")
	}
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "c", "list.json")
	make := func(top, id string) {
		t.Helper()
		dir := filepath.Join(root, top, "b", "c")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "list.json"), answer(id))
	}
	make("a", "first")
	w := watch(t, path)
	for i := range 2 {
		id := fmt.Sprintf("swapped-%d", i)
		make("new", id)
		rename(t, filepath.Join(root, "a"), filepath.Join(root, fmt.Sprint("old-", i)))
		rename(t, filepath.Join(root, "new"), filepath.Join(root, "a"))
		w.has(id)
		put(t, path, answer(id+"-written"))
		w.has(id + "-written")
	}
	// A folder in the middle is replaced.
	rename(t, filepath.Join(root, "a", "b"), filepath.Join(root, "gone"))
	make("a", "middle")
	w.has("middle")
	swap(t, path, answer("renamed"))
	w.has("renamed")
	// A link takes the place of a folder, and then gets another target.
	make("one", "one")
	make("two", "two")
	if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	link(t, "one", filepath.Join(root, "a"))
	w.has("one")
	link(t, "two", filepath.Join(root, "tmp"))
	rename(t, filepath.Join(root, "tmp"), filepath.Join(root, "a"))
	w.has("two")
	put(t, path, answer("two-written"))
	w.has("two-written")
}

func TestABurstOfWritesIsOneChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.json")
	w := watch(t, path)
	for i := range 500 {
		put(t, path, answer(fmt.Sprint(i)))
	}
	put(t, path, answer("last"))
	w.has("last")
	if n := len(w.api.asked); n > 100 { // a slow machine may see several bursts
		t.Errorf("the source was asked again %d times more", n)
	}
}

func TestAFileIsNotWatchedAfterTearDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.json")
	w := watch(t, path)
	if err := w.file.Setup(t.Context(), w.api); err == nil {
		t.Error("it can be set up for two managers")
	}
	for range 2 {
		if err := w.file.TearDown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for len(w.api.asked) > 0 {
		<-w.api.asked
	}
	put(t, path, answer("late"))
	// A Manager that sets the File up later gets the reports, and the one before gets none.
	again := watch(t, path)
	put(t, path, answer("later"))
	again.has("later")
	if n := len(w.api.asked); n != 0 {
		t.Errorf("the source was asked again %d times after TearDown", n)
	}
	if err := w.file.Setup(t.Context(), w.api); err != nil {
		t.Errorf("it cannot be set up again: %v", err)
	}
}

func TestAFileThatIsNotToBeWatchedIsNot(t *testing.T) {
	f, err := retriever.NewFile(filepath.Join(t.TempDir(), "list.json"), retriever.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // several managers may share it
		if err := f.Setup(t.Context(), &askedAgain{}); err != nil {
			t.Error(err)
		}
	}
	if err := f.TearDown(t.Context()); err != nil {
		t.Error(err)
	}
}
