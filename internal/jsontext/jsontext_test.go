package jsontext_test

import (
	"encoding/json"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

func TestNothingIsEscapedThatNeedNotBe(t *testing.T) {
	got, err := jsontext.Marshal(
		map[string]any{"a": "<&>", "b": json.RawMessage(`{"url":"x?a=1&b=<2>","n":1.50,"é":"é"}`)},
	)
	if want := `{"a":"<&>","b":{"url":"x?a=1&b=<2>","n":1.50,"é":"é"}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if _, err := jsontext.Marshal(func() {}); err == nil {
		t.Error("a function was marshalled")
	}
}
