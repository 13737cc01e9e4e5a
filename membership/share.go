package membership

// Share returns the weight of a member, and the weight of all live members that may own shards, now or as soon as they
// have joined. mine is 0 if the member is not one of these.
func (v *View) Share(id string) (mine, all int) {
	if v.older != nil { // all must come to the same sum
		return v.olderShare(id)
	}
	for other, m := range v.Members {
		joins := m.State == Joining && (v.ignored || !v.Ordered(other))
		if !joins && v.holds[other] == nil {
			continue
		}
		all += v.WeightOf(other)
		if other == id {
			mine = v.WeightOf(other)
		}
	}
	return mine, all
}

// olderShare is Share as members of Schema 1 see it.
func (v *View) olderShare(id string) (mine, all int) {
	for other, m := range v.Members {
		joins := m.State == Joining && (v.allDrained || !v.Ordered(other))
		if !joins && v.older[other] == nil {
			continue
		}
		all += m.olderWeight()
		if other == id {
			mine = m.olderWeight()
		}
	}
	return mine, all
}
