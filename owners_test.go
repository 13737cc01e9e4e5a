package drm

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// What replaced a claim while nobody listened is told as its end, understood or not.
func TestFollowOwnersTellsTheEndOfAClaimThatGarbageReplaced(t *testing.T) {
	var told []OwnerChange
	o := &ownerFollower{layout: fuzzLayout, owners: map[string]owner{}, highest: map[string]int64{}, tell: func(c OwnerChange) { told = append(told, c) }}
	claim := func(value string, token int64) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{{Key: []byte(fuzzLayout.Claim(3, "a")), Value: []byte(value), CreateRevision: token}}
	}
	o.Reset(claim(`{"member":"m","state":"active"}`, 5), 6)
	o.Reset(claim("?", 5), 7) // under the same token: it is still m's
	o.Reset(claim("?", 8), 9)
	o.Reset(nil, 10)
	if want := []OwnerChange{{Resource: "a", Before: "m", Token: 5, Revision: 9}}; !slices.Equal(told, want) {
		t.Errorf("told %+v, want %+v", told, want)
	}
}
