package retriever

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOtherFilesOfAFolderDoNotChangeAFile looks by hand, since that nothing is told cannot be waited for.
func TestOtherFilesOfAFolderDoNotChangeAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.json")
	put := func(path string) {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &fileWatch{path: path}
	defer w.close()
	if _, complete := w.look(); !complete {
		t.Error("the folder is there, and is not watched")
	}
	put(filepath.Join(dir, "other"))
	if differs, _ := w.look(); differs {
		t.Error("another file changed this one")
	}
	put(path)
	if differs, _ := w.look(); !differs {
		t.Error("the file was made, and looks as before")
	}
	if differs, _ := w.look(); differs {
		t.Error("nothing happened, and the file looks changed")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if differs, complete := w.look(); !differs || complete {
		t.Errorf("the folder is gone: differs %t, complete %t", differs, complete)
	}
}
