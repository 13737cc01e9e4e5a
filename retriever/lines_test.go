package retriever_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/distributed-resource-manager/drm/retriever"
)

// told describes what Lines reads: the line's number, and the resource's data or "bad".
func told(r io.Reader, opts retriever.DecodeOptions) (all []string, errs []error) {
	for line, err := range retriever.Lines(r, opts) {
		switch {
		case err != nil:
			errs = append(errs, err)
		case line.Err != nil:
			all = append(all, fmt.Sprintf("%d bad", line.Number))
			errs = append(errs, line.Err)
		default:
			all = append(all, fmt.Sprintf("%d %s", line.Number, line.Resource.Data))
		}
	}
	return all, errs
}

func TestLines(t *testing.T) {
	a, b := `{"id":"a","n":1}`, `{"id":"b"}`
	for _, tt := range []struct {
		name, text string
		opts       retriever.DecodeOptions
		want       []string
		says       string // in the errors
	}{
		{name: "nothing"},
		{name: "empty lines", text: "\n \n"},
		{name: "one line", text: a, want: []string{"1 " + a}},
		{name: "lines", text: a + "\n\n" + b + "\r\n", want: []string{"1 " + a, "3 " + b}},
		{name: "a mark", text: "\xef\xbb\xbf" + a + "\n" + b, want: []string{"1 " + a, "2 " + b}},
		{
			name: "a bad line in between", text: a + "\n{\n" + b + "\n7\n", says: "a JSON object",
			want: []string{"1 " + a, "2 bad", "3 " + b, "4 bad"},
		},
		{
			name: "bad from the first line on", text: "}\n" + a,
			want: []string{"1 bad", "2 " + a}, says: "a JSON object",
		},
		{name: "no id", text: `{"n":1}` + "\n" + a, want: []string{"1 bad", "2 " + a}, says: `a string "id"`},
		{name: "a number", text: `{"id":7}`, want: []string{"1 bad"}, says: "--number-ids"},
		{
			name: "a number that is accepted", text: `{"id":7}`, opts: retriever.DecodeOptions{NumberIDs: true},
			want: []string{`1 {"id":"7"}`},
		},
		{
			name: "an array", text: "[" + a + "," + b + ",7]",
			want: []string{"1 " + a, "1 " + b, "1 bad"}, says: "object",
		},
		{
			name: "an array that ends early", text: "[" + a + ",\n" + b,
			want: []string{"1 " + a, "2 " + b}, says: "line 2",
		},
		{name: "text after an array", text: "[" + a + "]\n" + b, want: []string{"1 " + a}, says: "more text"},
		{
			name: "an array of lines", text: "\n[\n" + a + ",\n{\"id\":\n\"b\"}\n]\n",
			want: []string{"3 " + a, "4 " + b},
		},
		{
			name: "what a source answers", text: `{"data":[` + a + `,7]}`,
			want: []string{"1 " + a, "1 bad"}, says: "object",
		},
		{name: "the same on several lines", text: "{\n\"data\": [\n" + a + "\n]\n}\n", want: []string{"1 " + a}},
		{name: "a resource on several lines", text: "{\n\"id\":\"b\"\n}\n", want: []string{"1 " + b}},
		{name: "data of a resource", text: `{"id":"b","data":[1]}`, want: []string{`1 {"id":"b","data":[1]}`}},
		{name: "HTML", text: "<!doctype html>\n<p>", says: "it is HTML, not JSON"},
		{name: "UTF-16", text: "\xff\xfe{\x00", says: "UTF-16"},
		{
			name: "too long", text: a + "\n" + `{"id":"` + strings.Repeat("x", 100<<10) + "\"}\n" + b,
			opts: retriever.DecodeOptions{MaxBytes: 70 << 10},
			want: []string{"1 " + a, "2 bad", "3 " + b}, says: "71680",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{
				strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text)),
			} {
				got, errs := told(r, tt.opts)
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if all := errors.Join(errs...); (all != nil) != (tt.says != "") ||
					all != nil && !strings.Contains(all.Error(), tt.says) {
					t.Errorf("got the error %v, want one that says %q", all, tt.says)
				}
			}
		})
	}
}

func TestLinesTellThatTheReaderFailed(t *testing.T) {
	why := errors.New("the disk is gone")
	got, errs := told(io.MultiReader(strings.NewReader("{\"id\":\"a\"}\n{\"id\":\"b"), iotest.ErrReader(why)),
		retriever.DecodeOptions{})
	if len(got) != 1 || len(errs) != 1 || !errors.Is(errs[0], why) {
		t.Errorf("got %q, %v", got, errs)
	}
}

func TestIDLines(t *testing.T) {
	text := "a\n \"b\"\r\n{\"id\":\"c\",\"data\":1}\n\n{\"n\":1}\n\"d\n-e f\n{\"data\":[{\"id\":\"g\"}]}\n7"
	var got []string
	for line, err := range retriever.IDLines(strings.NewReader(text), retriever.DecodeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Err != nil {
			got = append(got, fmt.Sprintf("%d bad", line.Number))
			continue
		}
		if line.Resource.Data != nil {
			t.Errorf("line %d has data", line.Number)
		}
		got = append(got, fmt.Sprintf("%d %s", line.Number, line.Resource.ID))
	}
	if want := []string{"1 a", "2 b", "3 c", "5 bad", "6 bad", "7 -e f", "8 g", "9 7"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var ids []string
	for line, err := range retriever.IDLines(strings.NewReader(`["a",{"id":"b"}]`), retriever.DecodeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, line.Resource.ID)
	}
	if want := []string{"a", "b"}; !slices.Equal(ids, want) {
		t.Errorf("of an array: %q, want %q", ids, want)
	}
}
