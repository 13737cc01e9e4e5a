package output_test

import (
	"encoding/json"
	"errors"
	"iter"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

type thing struct {
	ID    string `json:"id"`
	Token int64  `json:"token"`
	Text  string `json:"text"`
}

func things() output.View[thing] {
	return output.View[thing]{
		Columns: []output.Column[thing]{
			{Title: "ID", Cell: func(t thing) any { return t.ID }, Whole: true},
			{Title: "TOKEN", Cell: func(t thing) any { return t.Token }, Wide: true},
			{Title: "TEXT", Cell: func(t thing) any { return t.Text }},
		},
		Object: func(t thing) any { return t },
	}
}

// list prints things as a list.
func list(t *testing.T, p output.Printer, items ...thing) string {
	t.Helper()
	var b strings.Builder
	p.Out = &b
	if err := things().List(&p, output.All(items)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var some = []thing{
	{"a", 9007199254740993, "<&> one\ntwo\tthree"},
	{"a-much-longer-id", 2, strings.Repeat("long ", 10) + "end"},
	{"日本", 3, ""},
}

func TestAListInEachFormat(t *testing.T) {
	for format, want := range map[output.Format]string{
		output.Table: "" +
			"ID                TEXT\n" +
			"a                 <&> one; two three\n" +
			"a-much-longer-id  long long long long long long long long long long end\n" +
			"日本              -\n",
		output.Wide: "" +
			"ID                TOKEN             TEXT\n" +
			"a                 9007199254740993  <&> one; two three\n" +
			"a-much-longer-id  2                 long long long long long long long long long long end\n" +
			"日本              3                 -\n",
		output.JSON: `[{"id":"a","token":9007199254740993,"text":"<&> one\ntwo\tthree"},` +
			`{"id":"a-much-longer-id","token":2,"text":"` + some[1].Text + `"},{"id":"日本","token":3,"text":""}]` + "\n",
		output.Name: "a\na-much-longer-id\n日本\n",
	} {
		if diff := cmp.Diff(want, list(t, output.Printer{Format: format}, some...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestYAMLHasTheDataOfJSON(t *testing.T) {
	var fromYAML, fromJSON []thing
	text := list(t, output.Printer{Format: output.YAML}, some...)
	if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := json.Unmarshal([]byte(list(t, output.Printer{Format: output.JSON}, some...)), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
}

// What a resource's data may be is what JSON may be, of which a reader of YAML does not take all.
func TestYAMLHasWhateverJSONHas(t *testing.T) {
	for _, text := range []string{
		`"\ud83d\ude00"`, `"\ud800"`, "\"\x7f\"", "\"\ufeff\"", `"\ufffe"`, "\"\uffff\"", "\"a\u2028b\u0085c\"",
		`"\u0000\u001b"`,
		`"\/"`, `"\\"`, `"yes"`, `"1e3"`, `"null"`, `"~"`, `"2026-01-02"`, `"0x1f"`, `"- a: b #c"`, `"a\n\n  b\n"`,
		`" \n"`, `"\t"`, `""`,
		`"=" `, `"<<"`, `{"y":2,"1":3,"":4}`, `{"a":{},"b":[],"c":[[]],"d":null}`, `[1,-0,1.50,1e3,-1E-7]`,
		`9007199254740993`, `18446744073709551615`, `-9223372036854775808`, `123456789012345678901234567890`,
		`"` + strings.Repeat("long words ", 30) + `"`, strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`{"` + strings.Repeat("k", 2000) + `":1}`,
	} {
		var b strings.Builder
		object := func(data json.RawMessage) any { return map[string]any{"data": data} }
		data := output.View[json.RawMessage]{Object: object}
		err := data.List(&output.Printer{Format: output.YAML, Out: &b}, output.All([]json.RawMessage{[]byte(text)}))
		var got []struct{ Data any }
		if err = errors.Join(err, yaml.Unmarshal([]byte(b.String()), &got)); err != nil || len(got) != 1 {
			t.Errorf("%s: %v: %s", text, err, b.String())
			continue
		}
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got[0].Data, want) { // cmp takes for ever with lists in lists
			t.Errorf("%s: got %#v of\n%s", text, got[0].Data, b.String())
		}
	}
}

func TestAnEmptyList(t *testing.T) {
	for format, want := range map[output.Format]string{
		output.Table: "ID  TEXT\n", output.JSON: "[]\n", output.YAML: "[]\n", output.Name: "",
	} {
		if got := list(t, output.Printer{Format: format}); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestATableIsCutToTheWidth(t *testing.T) {
	for width, want := range map[int]string{
		40: "" +
			"ID                TEXT\n" +
			"a                 <&> one; two three\n" +
			"a-much-longer-id  long long long long l…\n" +
			"日本              -\n",
		20: "" + // nothing but the id is left to cut
			"ID            TEXT\n" +
			"a             <&> o…\n" +
			"a-much-long…  long …\n" +
			"日本          -\n",
	} {
		got := list(t, output.Printer{Format: output.Table, Width: width}, some...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", width, diff)
		}
		wide := list(t, output.Printer{Format: output.Wide, Width: width}, some...)
		if !strings.Contains(wide, some[1].Text) || !strings.Contains(wide, some[1].ID) {
			t.Errorf("wide is cut:\n%s", wide)
		}
		names := list(t, output.Printer{Format: output.Name, Width: width}, some...)
		if !strings.Contains(names, some[1].ID) {
			t.Errorf("a name is cut:\n%s", names)
		}
	}
}

func TestSpareColumnsAreLeftOutWhereALineHasNoRoom(t *testing.T) {
	v := things()
	v.Columns[1].Wide, v.Columns[1].Spare = false, true
	for width, want := range map[int]string{
		0:  "ID  TOKEN             TEXT\na   9007199254740993  <&> one; two three\n",
		28: "ID  TOKEN             TEXT\na   9007199254740993  <&> o…\n", // a part of a number would mislead
		27: "ID  TEXT\na   <&> one; two three\n",
		17: "ID  TEXT\na   <&> one; two…\n",
	} {
		var b strings.Builder
		p := &output.Printer{Out: &b, Format: output.Table, Width: width}
		stream := v.Follow(p)
		if err := stream.Add(some[0]); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%d (-want +got):\n%s", width, diff)
		}
		b.Reset()
		if err := stream.Add(some[2]); err != nil { // the columns stay
			t.Fatal(err)
		}
		if n := len(strings.Fields(b.String())); n != len(strings.Fields(strings.SplitN(want, "\n", 2)[0])) {
			t.Errorf("%d: then %q", width, b.String())
		}
	}
}

// TestAListIsNotHeld prints many values, and checks that the first ones are printed before the last ones are asked for.
func TestAListIsNotHeld(t *testing.T) {
	for _, format := range output.Formats() {
		var b strings.Builder
		before := 0
		items := func(yield func(thing, error) bool) {
			for n := range 10_000 {
				if n == 1000 {
					before = strings.Count(b.String(), "name-")
				}
				if !yield(thing{ID: "name-" + strings.Repeat("x", n%7)}, nil) {
					return
				}
			}
		}
		if err := things().List(&output.Printer{Out: &b, Format: format}, items); err != nil {
			t.Fatal(err)
		}
		if before < 500 {
			t.Errorf("%s: %d of the first 1000 were printed", format, before)
		}
		if n := strings.Count(b.String(), "name-"); n != 10_000 {
			t.Errorf("%s: %d were printed", format, n)
		}
	}
}

func TestAnErrorAmongTheItems(t *testing.T) {
	boom := errors.New("boom")
	var items iter.Seq2[thing, error] = func(yield func(thing, error) bool) {
		_ = yield(thing{ID: "a"}, nil) && yield(thing{}, boom)
	}
	var b strings.Builder
	err := things().List(&output.Printer{Out: &b, Format: output.JSON}, items)
	if want := `[{"id":"a","token":0,"text":""}`; !errors.Is(err, boom) || b.String() != want {
		t.Errorf("got %q and %v", b.String(), err)
	}
	none := func(yield func(thing, error) bool) { yield(thing{}, boom) }
	b.Reset()
	err = things().List(&output.Printer{Out: &b, Format: output.Table}, none)
	if !errors.Is(err, boom) || b.Len() > 0 {
		t.Errorf("got %q and %v", b.String(), err)
	}
}

func TestFollowPrintsOneAfterTheOther(t *testing.T) {
	for format, want := range map[output.Format]string{
		output.Table: "ID  TEXT\na   x\nlonger  y\n",
		output.JSON:  `{"id":"a","token":0,"text":"x"}` + "\n" + `{"id":"longer","token":0,"text":"y"}` + "\n",
		output.YAML:  "id: a\ntext: x\ntoken: 0\n---\nid: longer\ntext: \"y\"\ntoken: 0\n",
		output.Name:  "a\nlonger\n",
	} {
		var b strings.Builder
		s := things().Follow(&output.Printer{Out: &b, Format: format})
		for _, item := range []thing{{ID: "a", Text: "x"}, {ID: "longer", Text: "y"}} {
			if err := s.Add(item); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestAReport(t *testing.T) {
	object := struct {
		N int `json:"count"`
	}{1}
	page := func(p *output.Page) {
		p.Row("name", "x")
		p.Row("a longer name", strings.Repeat("word ", 10)+time.Unix(0, 0).UTC().Format(time.RFC3339))
		p.Line("")
		p.Line("  %s\x1b[31m", "indented")
		p.Rows([]string{"A", "B"}, [][]any{{1, ""}, {22, true}})
	}
	for format, want := range map[output.Format]string{
		output.Table: "" +
			"name           x\n" +
			"a longer name  word word word word word\n" +
			"               word word word word word\n" +
			"               1970-01-01T00:00:00Z\n" +
			"\n" +
			"  indented\\x1b[31m\n" +
			"A   B\n" +
			"1   -\n" +
			"22  true\n",
		output.JSON: `{"count":1}` + "\n", output.YAML: "count: 1\n", output.Name: "x\n",
	} {
		var b strings.Builder
		if err := output.Report(&output.Printer{Out: &b, Format: format, Width: 40}, object, "x", page); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

// failing is an output that nobody can write to.
type failing struct{}

var errGone = errors.New("gone")

func (failing) Write([]byte) (int, error) { return 0, errGone }

func TestErrorsOfTheOutput(t *testing.T) {
	for _, format := range output.Formats() {
		p := &output.Printer{Out: failing{}, Format: format}
		if err := things().List(p, output.All(some)); !errors.Is(err, errGone) {
			t.Errorf("list as %s: %v", format, err)
		}
		err := output.Report(p, 1, "x", func(page *output.Page) { page.Line("x"); page.Row("a", "b") })
		if !errors.Is(err, errGone) {
			t.Errorf("report as %s: %v", format, err)
		}
	}
}
