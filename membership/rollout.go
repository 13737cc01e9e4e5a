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

// BetterCoordinator says whether another member should take the coordinator's office rather than this one: it is ready
// and this one is not, or it has the newer version while two versions live. A member of the older version will be
// stopped soon, and then the office would move once more. A member without a source is no better than one with one.
func (v *View) BetterCoordinator(id string) bool {
	me := v.Members[id]
	newer, rollout := v.Rollout()
	for other, m := range v.Members {
		if other == id || m.State != Active || me.Source && !m.Source {
			continue
		}
		if me.State == Unready || rollout && m.Version == newer && me.Version != newer {
			return true
		}
	}
	return false
}
