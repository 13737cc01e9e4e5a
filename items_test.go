package drm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A large answer is checked in pieces, at the same time; what is told is still the first that is wrong.
func TestTheFirstItemThatIsWrongIsTold(t *testing.T) {
	const n = 50_000
	for _, tt := range []struct {
		name  string
		wrong map[int]Resource
		want  string
	}{
		{"none", nil, ""},
		{
			"one of two",
			map[int]Resource{
				45_001: {ID: "x", Data: json.RawMessage(`[]`)},
				25_000: {ID: "y", Data: json.RawMessage(`{"id":"z"}`)},
			},
			`item 25000 (id "y"): data.id: got "z"`,
		},
		{"the last", map[int]Resource{n - 1: {ID: ""}}, "item 49999: id: "},
		{
			"twice",
			map[int]Resource{30_000: {ID: "r7"}},
			`item 30000 (id "r7"): id: got "r7", want an id that item 7 does not have already`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := make([]Resource, n)
			for i := range list {
				list[i] = Resource{ID: fmt.Sprintf("r%d", i), Data: json.RawMessage(fmt.Sprintf(`{"id":"r%d"}`, i))}
			}
			for i, r := range tt.wrong {
				list[i] = r
			}
			items, bad := toItems(list, nil, 0)
			got := len(items)
			err := bad.OrNil()
			if bad.Count() != len(tt.wrong) {
				t.Errorf("%d are bad, want %d", bad.Count(), len(tt.wrong))
			}
			switch {
			case got != n-len(tt.wrong):
				t.Errorf("%d items are good, want %d", got, n-len(tt.wrong))
			case tt.want == "" && (err != nil):
				t.Errorf("%d items, %v", got, err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("got %v, want %s …", err, tt.want)
			}
		})
	}
}
