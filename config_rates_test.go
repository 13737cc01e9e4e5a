package drm

import (
	"errors"
	"math"
	"testing"
)

func TestARateHasADefaultBurstAndARange(t *testing.T) {
	for _, test := range []struct{ given, want Rate }{
		{Rate{}, Rate{}},
		{Rate{PerSecond: 0.001}, Rate{0.001, 1}},
		{Rate{PerSecond: 10}, Rate{10, 1}},
		{Rate{PerSecond: 11}, Rate{11, 2}},
		{Rate{PerSecond: 500}, Rate{500, 50}},
		{Rate{1_000_000, 1_000_000}, Rate{1_000_000, 1_000_000}},
	} {
		got := test.given
		if err := got.withDefaults("HandleRate"); err != nil || got != test.want {
			t.Errorf("%+v: got %+v, %v, want %+v", test.given, got, err, test.want)
		}
	}
	for _, bad := range []Rate{
		{PerSecond: -1},
		{PerSecond: math.NaN()},
		{PerSecond: math.Inf(1)},
		{PerSecond: 0.0009},
		{PerSecond: 1_000_001},
		{Burst: 1},
		{1, -1},
		{1, 1_000_001},
	} {
		var input *InputError
		if err := bad.withDefaults("HandleRate"); !errors.As(err, &input) {
			t.Errorf("%+v is accepted: %v", bad, err)
		}
	}
}

// A BudgetKey that changes the data that it is given must not change what Handle is given.
func TestBudgetKeyGetsACopyOfTheData(t *testing.T) {
	data := []byte(`{"id":"a"}`)
	key, err := budgetKey(func(r Resource) string {
		clear(r.Data)
		return r.ID
	})("a", data)
	if key != "a" || err != nil || string(data) != `{"id":"a"}` {
		t.Errorf("got %q, %v, data %q", key, err, data)
	}
	if _, err := budgetKey(func(Resource) string { panic("boom") })("a", data); err == nil {
		t.Error("a panic is no error")
	}
}
