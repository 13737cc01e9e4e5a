package warnings

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
)

func TestASourceIsOverdueAfterThreePollsAndAMinute(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answered := record.Source{LastSuccess: at, LastAttempt: at, PollMS: 60_000}
	never, left, unknown := answered, answered, answered
	never.LastSuccess = time.Time{}
	left.NotBefore = at.Add(time.Hour)
	unknown.PollMS = 0
	for _, tt := range []struct {
		name  string
		s     record.Source
		after time.Duration
		want  bool
	}{
		{"nobody has asked it", record.Source{PollMS: 60_000}, time.Hour, false},
		{"in time", answered, 4 * time.Minute, false},
		{"late", answered, 4*time.Minute + time.Second, true},
		{"it has never answered", never, 4*time.Minute + time.Second, true},
		{"it wants to be left alone", left, 59 * time.Minute, false},
		{"it wanted to be left alone", left, time.Hour + 4*time.Minute, false},
		{"it wanted to be left alone, long ago", left, time.Hour + 5*time.Minute, true},
		{"nobody says how often it is polled", unknown, time.Hour, false},
	} {
		if got := Overdue(tt.s, at.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestWhatPassesByItselfIsLeftOut(t *testing.T) {
	looks := [][]Seen{
		{{"P", []string{"a", "b"}, true}, {"Q", []string{"x"}, true}, {"E", nil, false}},
		{{"P", []string{"b", "c"}, true}, {"Q", []string{"y"}, true}, {"E", nil, false}, {"F", nil, false}},
	}
	n := 0
	got, err := Settled(t.Context(), 10*time.Millisecond, func(context.Context) ([]Seen, error) {
		n++
		return slices.Clone(looks[min(n, 2)-1]), nil
	}, func(l *[]Seen) *[]Seen { return l }, func(s Seen) Seen { return s })
	if err != nil || n != 2 || len(got) != 3 || got[0].Code != "P" || got[1].Code != "E" || got[2].Code != "F" {
		t.Errorf("after %d looks: %+v, %v", n, got, err)
	}

	n = 0
	nothing := func(context.Context) ([]Seen, error) { n++; return []Seen{{"E", nil, false}}, nil }
	got, err = Settled(t.Context(), time.Hour, nothing, func(l *[]Seen) *[]Seen { return l },
		func(s Seen) Seen { return s })
	if err != nil || n != 1 || len(got) != 1 {
		t.Errorf("where nothing passes: %d looks, %+v, %v", n, got, err)
	}
	fails := errors.New("no")
	_, err = Settled(t.Context(), time.Hour, func(context.Context) ([]Seen, error) { return nil, fails },
		func(l *[]Seen) *[]Seen { return l }, func(s Seen) Seen { return s })
	if !errors.Is(err, fails) {
		t.Errorf("a look that fails: %v", err)
	}
}

func TestCodesAreInOrderAndUnique(t *testing.T) {
	all := Codes()
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("%v", all)
	}
	for code := range severities {
		if !slices.Contains(all, code) {
			t.Errorf("%s is not among the codes", code)
		}
	}
}

func TestWhatTakesOrdersBackCanBeTypedAsItStands(t *testing.T) {
	cordon := func(member string) picture.Standing {
		return picture.Standing{Kind: picture.OrderCordon, Member: member}
	}
	weight := picture.Standing{Kind: picture.OrderWeight, Member: "m"}
	pin := func(shard int) picture.Standing {
		return picture.Standing{Kind: picture.OrderPin, Member: "m", Shard: shard}
	}
	for _, tt := range []struct {
		orders []picture.Standing
		want   string
	}{
		{[]picture.Standing{cordon("host-1")}, "drmctl uncordon host-1"},
		{[]picture.Standing{cordon("a"), cordon("b")}, "drmctl uncordon MEMBER"},
		{
			[]picture.Standing{cordon("a"), weight, pin(7)},
			"drmctl uncordon a, drmctl weight m --reset, drmctl unpin --shard 7",
		},
		{[]picture.Standing{pin(7), pin(8)}, "drmctl unpin --shard NUMBER (drmctl pins lists them)"},
		{[]picture.Standing{cordon("$(reboot)")}, "drmctl uncordon MEMBER"},
		{[]picture.Standing{cordon("-x")}, "drmctl uncordon MEMBER"},
		{[]picture.Standing{cordon("")}, "drmctl uncordon MEMBER"},
	} {
		if got := takesBack(tt.orders); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.orders, got, tt.want)
		}
	}
}
