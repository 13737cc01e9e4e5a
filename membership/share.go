package membership

// Share returns the weight of a member, and the weight of all live members that may own shards, now or as soon as they
// have joined. mine is 0 if the member is not one of these.
func (v *View) Share(id string) (mine, all int) {
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
