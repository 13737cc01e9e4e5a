package retriever

import (
	"strings"
	"testing"
)

func TestLinkNext(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{`</2>; rel="next"`}, "/2"},
		{[]string{`</2>;rel=next`}, "/2"},
		{[]string{`</2> ; REL = "Next" `}, "/2"},
		{[]string{`</1>; rel="prev", </3>; rel="next", </9>; rel="last"`}, "/3"},
		{[]string{`</1>; rel="prev"`, `</3>; rel="next"`}, "/3"},
		{[]string{`</1>; rel="first prev", </3>; rel="last next"`}, "/3"},
		{[]string{`</a,b;c?d=<>; title="x, </no>; rel=next"; rel="next"`}, "/a,b;c?d=<"},
		{[]string{`</1>; title="a \" b, </no>; rel=next", </3>; rel=next`}, "/3"},
		{[]string{`</1>; rel="prev"; rel="next"`}, ""},
		{[]string{`</1>`, `</2>; title="next"`, `</3>; rel="nextish"`}, ""},
		{[]string{`</2; rel="next"`, `/2; rel="next"`, `<>; rel="prev"`}, ""},
	} {
		if got := linkNext(c.headers); got != c.want {
			t.Errorf("%q: %q, want %q", c.headers, got, c.want)
		}
	}
}

func FuzzLinkNext(f *testing.F) {
	f.Add(`</1>; rel="prev", </3>; rel="next"`)
	f.Add(`<a>; title="\`)
	f.Fuzz(func(t *testing.T, header string) {
		next := linkNext([]string{header})
		if next != "" && (strings.Contains(next, ">") || !strings.Contains(header, "<"+next+">")) {
			t.Fatalf("%q: %q", header, next)
		}
		if again := linkNext([]string{"<" + next + `>; rel="next"`}); next != "" && again != next {
			t.Fatalf("%q: %q, then %q", header, next, again)
		}
	})
}
