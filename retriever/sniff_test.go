package retriever_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/distributed-resource-manager/drm/retriever"
)

func TestSyntaxErrorsTellLineAndColumn(t *testing.T) {
	long := strings.Repeat("{\"id\":\"%d\"},\n", 1)
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, long, i)
	}
	for name, c := range map[string]struct {
		body         string
		line, column int
	}{
		"in one line":              {`{"data":[{"id":"a"},{"id":b}]}`, 1, 27},
		"in the second":            {"{\"data\":[\n  {\"id\":x}]}", 2, 9},
		"with CRLF":                {"{\r\n\"data\":[\r\n{\"id\":\"a\",}]}", 3, 11},
		"a comma that is missing":  {"{\"data\":[{\"id\":\"a\"}\n {\"id\":\"b\"}]}", 2, 2},
		"a comma too many":         {"{\"data\":[{\"id\":\"a\"},\n\n]}", 3, 1},
		"a name without quotes":    {"{\n\n data:[]}", 3, 2},
		"more text":                {"{\"data\":[]\n}\nx", 3, 1},
		"a wrong bracket":          {"{\"data\":[\n]]", 2, 2},
		"an end in an item":        {"{\"data\":[\n{\"id\":\"a", 2, 9},
		"an end between items":     {"{\"data\":[\n{\"id\":\"a\"},\n", 3, 1},
		"after 5000 items":         {"{\"data\":[\n" + many.String() + "{\"id\":\n nil}]}", 5003, 3},
		"behind a byte order mark": {"\ufeff{\"data\":[\n  {\"id\":x}]}", 2, 9},
		"in other fields":          {"{\"meta\":{\n\"a\":\n?},\"data\":[]}", 3, 1},
		"after a million lines":    {strings.Repeat("\n", 1<<20) + "?", 0, 0}, // more than maxAhead
	} {
		for way, r := range map[string]io.Reader{
			"at once": strings.NewReader(c.body), "in pieces": iotest.HalfReader(strings.NewReader(c.body)),
		} {
			_, err := retriever.Decode(r, retriever.DecodeOptions{})
			var syntax *retriever.SyntaxError
			if !errors.As(err, &syntax) || syntax.Line != c.line || syntax.Column != c.column {
				t.Errorf("%s, %s: %v, want line %d, column %d", name, way, err, c.line, c.column)
				continue
			}
			where := fmt.Sprintf("(line %d, column %d)", c.line, c.column)
			if c.line > 0 && !strings.Contains(err.Error(), where) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAnAnswerThatIsNotJSONIsNamed(t *testing.T) {
	wide := func(order int) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(one)) {
			pair := [2]byte{byte(u >> 8), byte(u)}
			b.WriteByte(pair[order])
			b.WriteByte(pair[1-order])
		}
		return b.String()
	}
	for body, want := range map[string]string{
		"<!DOCTYPE html><title>Log in</title>": "it is HTML, not JSON",
		"\n <HTML lang=\"en\">":                "it is HTML, not JSON",
		"\ufeff<!-- x --><html>":               "it is HTML, not JSON",
		"<?xml version=\"1.0\"?><list/>":       "it begins with '<'",
		"\xff\xfe" + wide(1):                   "it is in UTF-16",
		"\xfe\xff" + wide(0):                   "it is in UTF-16",
		wide(0):                                "it is in UTF-16",
		wide(1):                                "it is in UTF-16",
		"\xff\xfe\x00\x00{\x00\x00\x00":        "it is in UTF-32",
		"\x1f\x8b\x08\x00\x00":                 "compressed with gzip",
	} {
		_, err := decode(body, retriever.DecodeOptions{})
		var syntax *retriever.SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", body, err, want)
		}
	}
	for _, body := range []string{"\ufeff" + one, "\ufeff \n" + one} {
		if got, err := decode(body, retriever.DecodeOptions{}); err != nil || len(got) != 1 || got[0].ID != "a" {
			t.Errorf("behind a byte order mark: %v, %v", got, err)
		}
	}
}
