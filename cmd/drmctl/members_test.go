package main

import (
	"testing"

	"github.com/distributed-resource-manager/drm"
)

func TestSlotsThatFollowEachOtherAreOneRange(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]drm.MemberInfo{
		"":          {},
		"3":         {Slots: []int{3}},
		"0-2,5,7-8": {Slots: []int{0, 1, 2, 5, 7, 8}},
		"32-63":     {Blocks: []drm.SlotRange{{First: 32, Last: 63}}},
		"0,2-11,14": {Slots: []int{0, 10, 11, 14}, Blocks: []drm.SlotRange{{First: 2, Last: 9}}},
	} {
		if got := slotWords(m); got != want {
			t.Errorf("%+v is %q, want %q", m, got, want)
		}
	}
}
