package membership

// Rollout says whether a new version of the members' program is being rolled out: members of at least two versions have
// joined, or are joining. newer is the version of the member that has registered last, since that is the version that
// the others are being replaced by. An empty version is a version, too.
func (v *View) Rollout() (newer string, ok bool) {
	last := int64(0)
	for _, m := range v.Members {
		if m.CreateRevision > last && (m.HasJoined() || m.State == Joining) {
			newer, last = m.Version, m.CreateRevision
		}
	}
	for _, m := range v.Members {
		if m.Version != newer && (m.HasJoined() || m.State == Joining) {
			return newer, true
		}
	}
	return "", false
}
