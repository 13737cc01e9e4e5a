package drm_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

func TestParseResourceKeepsTheWholeObject(t *testing.T) {
	r, err := drm.ParseResource([]byte(" {\"id\": \"1\",\n \"n\": 1.50, \"x\": {\"y\": [null]}}"))
	if err != nil || r.ID != "1" || string(r.Data) != `{"id":"1","n":1.50,"x":{"y":[null]}}` {
		t.Errorf("%+v %s, %v", r, r.Data, err)
	}
}

func TestParseResourceSaysWhatItFoundInstead(t *testing.T) {
	for object, want := range map[string]string{
		``:                              "nothing",
		`[]`:                            "an array",
		`"x"`:                           "a string",
		`null`:                          "null",
		`nonsense`:                      "text that is not JSON",
		`trueish`:                       "text that is not JSON",
		`true`:                          "a boolean",
		`12`:                            "a number",
		`{"id":1}`:                      "the number 1",
		`{"id":null}`:                   "null",
		`{"id":{}}`:                     "an object",
		`{}`:                            `"id"`,
		`{"id":""}`:                     "not empty",
		`{"id":"a\nb"}`:                 "control",
		`{"id":"x"`:                     "valid JSON",
		"{\"id\":\"x\",\"a\":\"\xff\"}": "UTF-8",
		`{"id":"` + strings.Repeat("x", 513) + `"}`: "512",
	} {
		_, err := drm.ParseResource([]byte(object))
		var input *drm.InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.40q: %v, want it to say %q", object, err, want)
		}
	}
}

func TestValidateSaysWhatDataItFound(t *testing.T) {
	long := `{"id":7,"` + strings.Repeat("y", 1000) + `":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}`
	for data, want := range map[string]string{
		`[1,2]`: `an array`, `"text"`: `a string`,
		`{"id":7,"a":"x"}`: `an object of id, a`, long: `an object of id, yyyyy`,
	} {
		err := drm.Resource{ID: "the-id", Data: json.RawMessage(data)}.Validate()
		var input *drm.InputError
		if !errors.As(err, &input) || input.Field != "data" || !strings.HasPrefix(input.Value, want) ||
			len(input.Value) > 120 {
			t.Errorf("%.20q: %+v, want its names as what was found", data, input)
		}
	}
}

func TestValidateHoldsDataToTheID(t *testing.T) {
	for _, r := range []drm.Resource{
		{ID: "x"},
		{ID: "x", Data: json.RawMessage(`{}`)},
		{ID: "x", Data: json.RawMessage(` { "a" : {} } `)},
		{ID: "x", Data: json.RawMessage(`{"id":"x","a":1}`)},
	} {
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if again, err := drm.ParseResource(r.Object()); err != nil || again.ID != "x" {
			t.Errorf("%+v: its object is %s: %v", r, r.Object(), err)
		}
	}
	for _, r := range []drm.Resource{
		{},
		{ID: "x", Data: json.RawMessage(`{"id":"y"}`)},
		{ID: "x", Data: json.RawMessage(`{"id":1}`)},
		{ID: "x", Data: json.RawMessage(`{"id":"x","id":"y"}`)},
		{ID: "x", Data: json.RawMessage(`{"id":"x","\u0069d":"y"}`)},
		{ID: "x", Data: json.RawMessage(`{"id":"x","a":1`)},
		{ID: "x", Data: json.RawMessage(`{"id":"x"}}`)},
		{ID: "x", Data: json.RawMessage("{\"id\":\"x\",\"a\":\"\xff\"}")},
		{ID: "x", Data: json.RawMessage(`[1]`)},
		{ID: "x", Data: json.RawMessage(``)},
	} {
		if err := r.Validate(); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
}

func FuzzParseResource(f *testing.F) {
	for _, seed := range []string{`{"id":"1"}`, `{"id":1}`, `[]`, `{"id":"\u0000"}`, `{"a":{},"id":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		r, err := drm.ParseResource(object)
		if err != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Errorf("accepted %q, which is not valid: %v", object, err)
		}
		again, err := drm.ParseResource(r.Data)
		if err != nil || again.ID != r.ID || string(again.Data) != string(r.Data) {
			t.Errorf("%q is not stable: %q, %v", object, again.Data, err)
		}
	})
}
