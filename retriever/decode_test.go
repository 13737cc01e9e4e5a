package retriever_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

func decode(body string, opts retriever.DecodeOptions) ([]drm.Resource, error) {
	return retriever.Decode(strings.NewReader(body), opts)
}

func TestDecodeKeepsWholeObjectsInOrder(t *testing.T) {
	got, err := decode(`{"of": 2, "data": [
		{"url": "wss://example.org/b", "id": "b", "n": 1.50, "deep": {"id": 7, "x": [null, true]}},
		{"id": "a"}
	], "next": null}`, retriever.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []drm.Resource{
		{
			ID:   "b",
			Data: json.RawMessage(`{"url":"wss://example.org/b","id":"b","n":1.50,"deep":{"id":7,"x":[null,true]}}`),
		},
		{ID: "a", Data: json.RawMessage(`{"id":"a"}`)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecodeOfAnEmptyListIsEmptyAndNotNil(t *testing.T) {
	got, err := decode(`{"data":[]}`, retriever.DecodeOptions{})
	if err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	long := strings.Repeat("x", drm.MaxIDBytes+1)
	for _, c := range []struct {
		name, body string
		item       int    // the index of the bad item, or of the *ItemError; -1 for none
		field      string // the field of the *drm.InputError; "" if there is none
		says       []string
	}{
		{"no id", `{"data":[{"id":"a"},{"name":"b"}]}`, 1, "id", []string{"item 1", `"an object of name"`, `"id"`}},
		{"empty id", `{"data":[{"id":""}]}`, 0, "id", []string{"not empty"}},
		{
			"long id", `{"data":[{"id":"a"},{"id":"` + long + `"}]}`,
			1, "id",
			[]string{"item 1", "xxxx", "at most 512 bytes"},
		},
		{"number id", `{"data":[{"id":1}]}`, 0, "resource", []string{"item 0", "a string", "the number 1"}},
		{"null id", `{"data":[{"id":null}]}`, 0, "resource", []string{"null"}},
		{"array id", `{"data":[{"id":["a"]}]}`, 0, "resource", []string{"an array"}},
		{"control character in the id", `{"data":[{"id":"a\nb"}]}`, 0, "id", []string{`a\nb`, "control"}},
		{"invalid UTF-8", "{\"data\":[{\"id\":\"a\xff\"}]}", 0, "resource", []string{"UTF-8"}},
		{"item is a string", `{"data":["a"]}`, 0, "resource", []string{"a JSON object", "a string"}},
		{"item is a number", `{"data":[{"id":"a"},2]}`, 1, "resource", []string{"a number"}},
		{"item is null", `{"data":[null]}`, 0, "resource", []string{"null"}},
		{"item is an array", `{"data":[[{"id":"a"}]]}`, 0, "resource", []string{"an array"}},
		{"invalid item", `{"data":[{"id":"a"},{"id":b}]}`, 1, "", []string{"item 1", "byte 20", "'b'"}},
		{"bare array", `[{"id":"a"}]`, -1, "body", []string{"a bare array", `{"data":[…]}`}},
		{"bare string", `"data"`, -1, "body", []string{"a string"}},
		{"bare number", `1e999`, -1, "body", []string{"a number"}},
		{"bare null", `null`, -1, "body", []string{"null"}},
		{"nothing", ``, -1, "body", []string{"empty"}},
		{"white space", " \n", -1, "body", []string{"empty"}},
		{"no data", `{"items":[],"total":0}`, -1, "data", []string{"items, total"}},
		{"nothing at all", `{}`, -1, "data", []string{`"data"`}},
		{"data is null", `{"data":null}`, -1, "data", []string{"null", "an array of objects"}},
		{"data is an object", `{"data":{"id":"a"}}`, -1, "data", []string{"an object"}},
		{"data is a string", `{"data":"` + long + `"}`, -1, "data", []string{"a string"}},
		{"data is false", `{"data":false}`, -1, "data", []string{"a boolean"}},
		{"data in the wrong case", `{"Data":[]}`, -1, "data", []string{"Data"}},
		{"data twice", `{"data":[],"data":[]}`, -1, "data", []string{"second"}},
		{"two objects", `{"data":[]} {"data":[]}`, -1, "", []string{"more text", "byte 11"}},
		{"garbage after", `{"data":[]} x`, -1, "", []string{"'x'"}},
		{"HTML", `<html>`, -1, "", []string{"invalid JSON", "it is HTML, not JSON"}},
		{"missing comma", `{"data":[{"id":"a"} {"id":"b"}]}`, 1, "", []string{"comma"}},
		{"comma too many", `{"data":[{"id":"a"},]}`, 1, "", []string{"']'"}},
		{"wrong bracket", `{"data":[]]`, -1, "", []string{"']'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(c.body, retriever.DecodeOptions{})
			if err == nil {
				t.Fatalf("got %v", got)
			}
			index, good := -1, -1
			var item *retriever.ItemError
			var bad *drm.BadItemsError
			switch {
			case errors.As(err, &bad):
				index, good = bad.Items()[0].Index, c.item
			case errors.As(err, &item):
				index = item.Index
			}
			if index != c.item || len(got) != max(good, 0) || (got == nil) != (good < 0) {
				t.Errorf("want item %d in %v, and those before it; got %v", c.item, err, got)
			}
			var input *drm.InputError
			if errors.As(err, &input) != (c.field != "") || input != nil && input.Field != c.field {
				t.Errorf("want field %q in %v", c.field, err)
			}
			var syntax *retriever.SyntaxError
			if errors.As(err, &syntax) != (c.field == "") {
				t.Errorf("want a syntax error: %t, in %v", c.field == "", err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("want %q in %v", s, err)
				}
			}
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDecodeTellsBothItemsOfADuplicate(t *testing.T) {
	_, err := decode(`{"data":[{"id":"x"},{"id":"a"},{"id":"b"},{"id":"a"}]}`, retriever.DecodeOptions{})
	var duplicate *retriever.DuplicateError
	if !errors.As(err, &duplicate) || *duplicate != (retriever.DuplicateError{ID: "a", First: 1, Second: 3}) {
		t.Fatalf("got %v", err)
	}
	// Both items are the same, so it does not matter which of them counts.
	var bad *drm.BadItemsError
	if errors.As(err, &bad); !bad.Items()[0].Repeats || bad.Keeps("a") || bad.KeepsAll() {
		t.Errorf("got %+v", bad.Items())
	}
	if want := `item 3 (id "a"): id "a" is also that of item 1, want each id once`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestDecodeOfAnyPartOfAnAnswerFails(t *testing.T) {
	const body = `{"a":{"b":[1]},"data":[{"id":"a","x":[1,{"y":null}]},{"id":"b"}],"next":null}`
	for n := range len(body) {
		_, err := decode(body[:n], retriever.DecodeOptions{})
		var syntax *retriever.SyntaxError
		if n > 0 && (!errors.As(err, &syntax) || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("%s: %v", body[:n], err)
		}
		if err == nil {
			t.Errorf("%s: no error", body[:n])
		}
	}
}

func TestDecodePassesErrorsOfItsReader(t *testing.T) {
	broken := errors.New("broken")
	for _, body := range []string{``, `{`, `{"data":[`, `{"data":[{"id":"a"},`, `{"data":[]}`} {
		r := io.MultiReader(strings.NewReader(body), iotest.ErrReader(broken))
		if _, err := retriever.Decode(r, retriever.DecodeOptions{}); !errors.Is(err, broken) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestDecodeRefusesTooMuch(t *testing.T) {
	const body = `{"data":[{"id":"a"}]}`
	n := int64(len(body))
	for _, c := range []struct {
		body string
		max  int64
		ok   bool
	}{
		{body, n, true},
		{body, n + 1, true},
		{body, 1<<63 - 1, true},
		{body, n - 1, false},
		{body, 1, false},
		{body + strings.Repeat(" ", 100_000), n + 10, false},
		{`{"data":[{"id":"` + strings.Repeat("x", 100_000), 1000, false},
	} {
		_, err := decode(c.body, retriever.DecodeOptions{MaxBytes: c.max})
		var large *retriever.TooLargeError
		if c.ok && err != nil || !c.ok && (!errors.As(err, &large) || large.Limit != c.max) {
			t.Errorf("%.30s… with at most %d bytes: %v", c.body, c.max, err)
		}
	}
	var input *drm.InputError
	if _, err := decode(body, retriever.DecodeOptions{MaxBytes: -1}); !errors.As(err, &input) ||
		input.Field != "MaxBytes" {
		t.Errorf("at most -1 bytes: %v", err)
	}
}

func TestDecodeAcceptsNumbersAsIDsIfAskedTo(t *testing.T) {
	for _, c := range []struct {
		items string
		data  string // of the first resource; "" if an error is wanted
	}{
		{`{"id":1}`, `{"id":"1"}`},
		{`{"a":{"id":2}, "id": -30 , "b":"id"}`, `{"a":{"id":2},"id":"-30","b":"id"}`},
		{`{"id":0}`, `{"id":"0"}`},
		{`{"id":123456789012345678901234567890}`, `{"id":"123456789012345678901234567890"}`},
		{`{"id":"1"}`, `{"id":"1"}`},
		{`{"id":1},{"id":"2"}`, `{"id":"1"}`},
		{`{"id":1},{"id":"1"}`, ``},
		{`{"id":1},{"id":1}`, ``},
		{`{"id":1.0}`, ``},
		{`{"id":1e3}`, ``},
		{`{"id":-0}`, ``},
		{`{"id":null}`, ``},
		{`{"id":` + strings.Repeat("1", drm.MaxIDBytes+1) + `}`, ``},
		{`1`, ``},
		{`[1]`, ``},
	} {
		got, err := decode(`{"data":[`+c.items+`]}`, retriever.DecodeOptions{NumberIDs: true})
		if c.data == "" {
			var bad *drm.BadItemsError
			if !errors.As(err, &bad) || bad.Count() != 1 {
				t.Errorf("%s: %v, %v", c.items, got, err)
			}
			continue
		}
		if err != nil || string(got[0].Data) != c.data {
			t.Errorf("%s: %s, %v; want %s", c.items, got, err, c.data)
			continue
		}
		if err := got[0].Validate(); err != nil {
			t.Errorf("%s: %v", c.items, err)
		}
	}
}

// list writes an answer of n items.
func list(w io.Writer, n int) error {
	if _, err := io.WriteString(w, `{"data":[`); err != nil {
		return err
	}
	for i := range n {
		comma := ","
		if i == 0 {
			comma = ""
		}
		if _, err := fmt.Fprintf(w, `%s{"id":"resource-%d","url":"wss://example.org/%d"}`, comma, i, i); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, `]}`)
	return err
}

func TestDecodeHoldsLittleBesidesTheResult(t *testing.T) {
	const n = 20_000
	before := live()
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- errors.Join(list(pw, n), pw.Close()) }()
	got, err := retriever.Decode(pr, retriever.DecodeOptions{})
	if err != nil || len(got) != n {
		t.Fatalf("%d, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if each := (live() - before) / n; each > 600 {
		t.Errorf("%d bytes are held for each resource", each)
	}
	runtime.KeepAlive(got)
}

// live returns how many bytes of the heap are in use. Earlier tests count too, and garbage that went through a
// sync.Pool or a finalizer takes two collections to go. So only differences mean anything.
func live() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func samples(t testing.TB) map[string]string {
	names, err := filepath.Glob("../testdata/retriever/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("samples: %v, %v", names, err)
	}
	bodies := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bodies[filepath.Base(name)] = string(b)
	}
	return bodies
}

func TestSamplesAreWhatTheirNamesSay(t *testing.T) {
	for name, body := range samples(t) {
		_, err := decode(body, retriever.DecodeOptions{})
		if good := strings.HasPrefix(name, "good-"); good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = decode(body, retriever.DecodeOptions{NumberIDs: true})
		if good := strings.HasPrefix(name, "good-") || name == "numbers.json"; good != (err == nil) {
			t.Errorf("%s with number ids: %v", name, err)
		}
	}
}

// What Decode accepts must be exactly what a decoder that reads everything at once, and then checks, accepts.
func FuzzDecode(f *testing.F) {
	for _, body := range samples(f) {
		f.Add(body, false)
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, numberIDs bool) {
		got, err := decode(body, retriever.DecodeOptions{NumberIDs: numberIDs})
		// The simple decoder cannot judge an answer with a second "data" or with number ids.
		comparable := !numberIDs && strings.Count(body, "data") < 2 && !strings.Contains(body, `\u`)
		var bad *drm.BadItemsError
		if err != nil && errors.As(err, &bad) == (got == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err != nil && bad == nil {
			if comparable && plainlyGood(body) {
				t.Fatalf("%q is good, but: %v", body, err)
			}
			return
		}
		if !json.Valid([]byte(body)) {
			t.Fatalf("%q is not JSON", body)
		}
		seen := map[string]bool{}
		for _, r := range got {
			if err := r.Validate(); err != nil || seen[r.ID] {
				t.Fatalf("%q gave %v: %v", body, r, err)
			}
			seen[r.ID] = true
		}
		if comparable && plainlyGood(body) != (err == nil) {
			t.Fatalf("%q gave %v, %v", body, got, err)
		}
	})
}

// plainlyGood states in the simplest terms what Decode promises.
func plainlyGood(body string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &fields) != nil {
		return false
	}
	var items []json.RawMessage
	if data := fields["data"]; len(data) == 0 || data[0] != '[' || json.Unmarshal(data, &items) != nil {
		return false
	}
	seen := map[string]bool{}
	for _, item := range items {
		r, err := drm.ParseResource(item)
		if err != nil || seen[r.ID] || strings.ToValidUTF8(string(item), "") != string(item) {
			return false
		}
		seen[r.ID] = true
	}
	return true
}

func BenchmarkDecode(b *testing.B) {
	var body strings.Builder
	if err := list(&body, 10_000); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(body.String(), retriever.DecodeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
