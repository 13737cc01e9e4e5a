package placement

import "github.com/distributed-resource-manager/drm/membership"

// MayJoin says whether a joining member need not wait any longer for its shards to be placed: that has been done, or
// nobody does it.
func MayJoin(v *membership.View, id string) bool {
	me := v.Members[id]
	return me.State != membership.Joining || !v.HasGuide() || v.Prepared[id] >= me.ModRevision
}

// MayStop says whether a member that has told that it is about to stop need not wait any longer for its shards to be
// placed elsewhere.
func MayStop(v *membership.View, id string) bool {
	me := v.Members[id]
	return !me.HasJoined() || !v.HasGuide() || me.Leaves && v.Prepared[id] >= me.ModRevision
}
