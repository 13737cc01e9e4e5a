package object_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/object"
)

func TestAnObjectGetsItsIDWhereItHasNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                `{"id":"<a>"}`,
		`{}`:              `{"id":"<a>"}`,
		` { "x" : 1 }`:    `{"id":"<a>","x" : 1 }`,
		`{"id":"b"}`:      `{"id":"b"}`,
		`{"x":{"id":1}}`:  `{"id":"<a>","x":{"id":1}}`,
		`{"id":1}`:        `{"id":1}`,
		`[]`:              `[]`,
		`{"\u0069d":"b"}`: `{"\u0069d":"b"}`,
	} {
		var data json.RawMessage
		if text != "" {
			data = json.RawMessage(text)
		}
		if got := object.WithID(data, "<a>"); string(got) != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// The shortcut may say no to a good object, but never yes to a bad one.
func TestOnlyAnObjectThatBeginsWithItsIDIsPlain(t *testing.T) {
	for text, want := range map[string]bool{
		`{"id":"a"}`:                    true,
		`{"id":"a","x":1}`:              true,
		`{"id":"b"}`:                    false,
		`{"id":"ab"}`:                   false,
		`{"x":1,"id":"a"}`:              false,
		`{"id":"a","id":"b"}`:           false,
		`{"id":"a","\u0069d":"b"}`:      false,
		`{"id":"a"`:                     false,
		"{\"id\":\"a\",\"x\":\"\xff\"}": false,
		"":                              false,
	} {
		if got := object.IsPlain([]byte(text), "a"); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

func TestTheShapeOfAnObjectHasNoneOfItsValues(t *testing.T) {
	many := `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}`
	for text, want := range map[string]string{
		`{"password":"secret","n":{"x":"secret"}}`: "an object of password, n",
		`{}`:                                    "an object",
		`{"a":"secret`:                          "an object",
		`"secret"`:                              "a string",
		`secret`:                                "text that is not JSON",
		` [1]`:                                  "an array",
		``:                                      "nothing",
		many:                                    "an object of a, b, c, d, e, f, g, h, …",
		`{"` + strings.Repeat("x", 30) + `":1}`: "an object of " + strings.Repeat("x", 24) + "…",
	} {
		if got := object.Shape([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
