package catalogue_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func anyEntry() *rapid.Generator[catalogue.Entry] {
	return rapid.Custom(func(t *rapid.T) catalogue.Entry {
		fields := rapid.MapOf(rapid.String(), rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.Float64(), func(f float64) any { return f }),
			rapid.Just(any(nil)), rapid.Just(any([]any{map[string]any{"}": "{"}})),
		)).Draw(t, "data")
		var data bytes.Buffer
		enc := json.NewEncoder(&data)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(fields); err != nil {
			t.Fatal(err)
		}
		return catalogue.Entry{
			FromSource: rapid.Bool().Draw(t, "from source"), Allocated: rapid.Bool().Draw(t, "allocated"),
			OwnData: rapid.Bool().Draw(t, "own data"), Suspended: rapid.Bool().Draw(t, "suspended"),
			Data: bytes.TrimSpace(data.Bytes()),
		}
	})
}

func sameEntry(a, b catalogue.Entry) bool {
	return a.FromSource == b.FromSource && a.Allocated == b.Allocated && a.OwnData == b.OwnData &&
		a.Suspended == b.Suspended && bytes.Equal(a.Data, b.Data)
}

func TestAnEntryComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyEntry().Draw(t, "entry")
		got, err := catalogue.Decode(want.Encode())
		if err != nil || !sameEntry(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestTheHandWrittenJSONIsEncodingJSONs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry().Draw(t, "entry")
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
		if got := string(e.Encode()); got != string(bytes.TrimSpace(want.Bytes())) {
			t.Fatalf("got  %s\nwant %s", got, want.Bytes())
		}
	})
}

func TestDecodeTakesTheSameJSONInAnotherOrderOrSpacing(t *testing.T) {
	want := catalogue.Entry{FromSource: true, Suspended: true, Data: json.RawMessage(`{"id":"a"}`)}
	for _, value := range []string{
		string(want.Encode()),
		`{"data":{"id":"a"},"suspended":true,"own_data":false,"allocated":false,"from_source":true}`,
		` { "suspended" : true , "from_source" : true , "data" :  {"id":"a"}  } ` + "\n",
		`{"from_source":true,"allocated":false,"own_data":false,"suspended":true,"data":{"id":"a"},"later":[1]}`,
		`{"from_source":true,"allocated":false,"own_data":false,"suspended":true,"data":{"id":"b"},"data":{"id":"a"}}`,
	} {
		if got, err := catalogue.Decode([]byte(value)); err != nil || !sameEntry(got, want) {
			t.Errorf("Decode(%s) = %+v, %v", value, got, err)
		}
	}
}

var corrupt = []string{
	"", "x", "{", "{}", "[]", "null", `"x"`, `{"data":null}`, `{"data":[]}`, `{"data":"{}"}`, `{"data":1}`,
	`{"from_source":1,"data":{}}`, `{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":}`,
	`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{}`,
	`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{}}}`,
	`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"a":1},2}`,
	`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{}} x`,
	`{"from_source":maybe,"allocated":false,"own_data":false,"suspended":false,"data":{}}`,
}

func TestACorruptEntryIsAnError(t *testing.T) {
	for _, value := range corrupt {
		if e, err := catalogue.Decode([]byte(value)); err == nil {
			t.Errorf("Decode(%s) = %+v", value, e)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, value := range corrupt {
		f.Add([]byte(value))
	}
	for i := range 16 {
		e := catalogue.Entry{
			FromSource: i&1 != 0,
			Allocated:  i&2 != 0,
			OwnData:    i&4 != 0,
			Suspended:  i&8 != 0,
			Data:       json.RawMessage(`{"id":"a"}`),
		}
		f.Add(e.Encode())
	}
	f.Add(suspended(catalogue.Entry{FromSource: true, Allocated: true, Data: json.RawMessage(`{"id":"a"}`)}).Encode())
	f.Add([]byte(` {"data": {"a" : [1, {}]} , "x":1, "Suspended": true}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := catalogue.Decode(value)
		if err != nil {
			return
		}
		var plain catalogue.Entry
		if err = json.Unmarshal(value, &plain); e.Suspension != nil { // what an allocation wants is in there
			plain.Allocated, plain.OwnData = e.Allocated, e.OwnData
		}
		if err != nil || plain.FromSource != e.FromSource || plain.Allocated != e.Allocated ||
			plain.OwnData != e.OwnData || plain.Suspended != e.Suspended ||
			!bytes.Equal(bytes.TrimSpace(plain.Data), bytes.TrimSpace(e.Data)) {
			t.Fatalf("%q: %+v, but encoding/json says %+v, %v", value, e, plain, err)
		}
		again, err := catalogue.Decode(e.Encode())
		if err != nil || !sameEntry(again, e) {
			t.Fatalf("%q: %+v, then %+v, %v", value, e, again, err)
		}
	})
}

func TestAnEntryThatNamesAnotherResourceIsCorrupt(t *testing.T) {
	const other = `data.id: got "b", want the resource's id "a", or no id`
	for data, want := range map[string]string{
		`{"id":"a"}`:                "",
		`{"id":"a","x":{"id":"b"}}`: "",
		`{"x":1}`:                   "",
		`{"\u0069d":"a"}`:           "",
		`{"id":"b"}`:                other,
		`{"id":"a","id":"b"}`:       other,
		`{"id":"a","\u0069d":"b"}`:  other,
		`{"id":1,"secret":"hidden"}`: `data: got "an object of id, secret", ` +
			`want an "id" that is a string, such as "1", not the number 1`,
	} {
		value := catalogue.Entry{FromSource: true, Data: json.RawMessage(data)}.Encode()
		e, err := catalogue.DecodeOf("a", value)
		if want == "" && (err != nil || string(e.Data) != data) {
			t.Errorf("%s: got %s, %v", data, e.Data, err)
		} else if want != "" && (err == nil || err.Error() != want || e.Data != nil) {
			t.Errorf("%s: got %s, %v, want %s", data, e.Data, err, want)
		}
	}
}

func FuzzDecodeOf(f *testing.F) {
	f.Add("a", []byte(`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"a"}}`))
	f.Add(`a\`, []byte(`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"a\\"}}`))
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		if keys.CheckID(id) != nil {
			return
		}
		e, err := catalogue.DecodeOf(id, value)
		if err != nil {
			return
		}
		// A caller that is given only the object must be told of this resource: the shortcut must not take another one
		// for it.
		var fields struct{ ID *string }
		data := string(e.Data)
		if json.Unmarshal(e.Data, &fields) == nil && strings.Count(strings.ToLower(data), `id"`) == 1 &&
			!strings.Contains(data, `\u`) && fields.ID != nil && *fields.ID != id && strings.Contains(data, `"id"`) {
			t.Fatalf("%q: the data of %q: %q", value, *fields.ID, id)
		}
		if w, err := catalogue.DecodeOf(id, e.Encode()); err != nil || !bytes.Equal(w.Encode(), e.Encode()) {
			t.Fatalf("%q: %s, then %s, %v", value, e.Encode(), w.Encode(), err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	value := catalogue.Entry{
		FromSource: true,
		Data:       json.RawMessage(`{"id":"r1","url":"wss://example.org/feed","retries":3}`),
	}.Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := catalogue.Decode(value); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleEntry() {
	e := catalogue.Entry{FromSource: true, Data: json.RawMessage(`{"id":"a"}`)}
	fmt.Println(string(e.Encode()))
	fmt.Println(e.Wanted())
	// Output:
	// {"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"a"}}
	// true
}

func BenchmarkEncode(b *testing.B) {
	e := catalogue.Entry{
		FromSource: true,
		Data:       []byte(`{"id":"feed-42","url":"wss://example.org/feed/42","depth":20,"symbols":["a","b"]}`),
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Encode()
	}
}
