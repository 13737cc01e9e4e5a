package object_test

import (
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/object"
)

func TestWeight(t *testing.T) {
	for _, tt := range []struct {
		object string
		want   int64
		bad    bool
	}{
		{`{"id":"a"}`, 1000, false},
		{`{"w":null}`, 1000, false},
		{`{"w":1}`, 1000, false},
		{`{"w":2.5}`, 2500, false},
		{`{"w":1e-9}`, 1, false},
		{`{"w":1e300}`, object.MaxWeight, false},
		{`{"w":0}`, 1000, true},
		{`{"w":-1}`, 1000, true},
		{`{"w":"secret"}`, 1000, true},
		{`{"w":{"x":1}}`, 1000, true},
		{`[]`, 1000, false},
		{``, 1000, false},
	} {
		got, err := object.Weight([]byte(tt.object), "w")
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: %d, %v", tt.object, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the value: %v", err)
		}
	}
}
