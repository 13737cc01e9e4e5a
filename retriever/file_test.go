package retriever_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

func TestFileReadsWhatIsThereNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resources.json")
	f, err := retriever.NewFile(path, retriever.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Setup(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context()); !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("no file: %v", err)
	}
	for _, body := range []string{`{"data":[{"id":"a"}]}`, `{"data":[{"id":"b"}]}`} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := f.Fetch(t.Context())
		if err != nil || len(got) != 1 || !strings.Contains(body, got[0].ID) {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
	if err := f.TearDown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFileErrorsNameTheFile(t *testing.T) {
	for name, body := range samples(t) {
		path := filepath.Join("..", "testdata", "retriever", name)
		f, err := retriever.NewFile(path, retriever.FileConfig{})
		if err != nil {
			t.Fatal(err)
		}
		_, want := decode(body, retriever.DecodeOptions{})
		_, err = f.Fetch(t.Context())
		if want == nil && err != nil ||
			want != nil && (err == nil || err.Error() != "reading "+path+": "+want.Error()) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	dir := t.TempDir()
	f, err := retriever.NewFile(dir, retriever.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), dir) ||
		!strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
}

func TestFileObeysItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resources.json")
	if err := os.WriteFile(path, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := retriever.NewFile(path, retriever.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNewFileNamesTheBadField(t *testing.T) {
	for _, c := range []struct {
		path  string
		cfg   retriever.FileConfig
		field string
	}{
		{"", retriever.FileConfig{}, "path"},
		{"x", retriever.FileConfig{MaxBytes: -1}, "MaxBytes"},
	} {
		var input *drm.InputError
		if f, err := retriever.NewFile(c.path, c.cfg); f != nil || !errors.As(err, &input) || input.Field != c.field {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
}

func TestStaticAlwaysAnswersTheSame(t *testing.T) {
	resources := []drm.Resource{{ID: "a"}, {ID: "b", Data: []byte(`{"id":"b","n":1}`)}}
	s := retriever.Static(resources...)
	want := slices.Clone(resources)
	resources[0].ID = "changed by the caller"
	for range 2 {
		got, err := s.Fetch(t.Context())
		if err != nil || len(got) != 2 || got[0].ID != want[0].ID || string(got[1].Data) != string(want[1].Data) {
			t.Fatalf("%v, %v", got, err)
		}
		got[0].ID = "changed by the reader"
	}
	if got, err := retriever.Static().Fetch(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}

func TestStaticTellsOfBadResources(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for _, bad := range []drm.Resource{{}, {ID: "a"}, {ID: "b", Data: []byte(`[]`)}, {ID: long}} {
		got, err := retriever.Static(drm.Resource{ID: "a"}, bad).Fetch(t.Context())
		var item *drm.BadItemsError
		if len(got) != 1 || !errors.As(err, &item) || item.Items()[0].Index != 1 || len(err.Error()) > 400 {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestFuncReturnsWhatTheFunctionDoes(t *testing.T) {
	broken := errors.New("broken")
	f := retriever.Func(func(ctx context.Context) ([]drm.Resource, error) {
		return []drm.Resource{{ID: "a"}}, errors.Join(broken, ctx.Err())
	})
	if err := errors.Join(f.Setup(t.Context(), nil), f.TearDown(t.Context())); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := f.Fetch(ctx); len(got) != 1 || !errors.Is(err, broken) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", got, err)
	}
}
