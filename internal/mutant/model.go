package mutant

// ofModel are the faults that only the simulation can have: real members cannot take a claim for theirs because of its
// name, and users decide what a receiver of webhooks compares.
var ofModel = []Mutant{
	{
		Name:      "claim-by-name",
		Breaks:    "a claim of this member's former life is taken for its own, because the name is the same",
		Simulated: true,
		Changes: []Change{
			{
				File: "internal/sim/watch.go",
				Old:  `got.claims = append(got.claims, c.key(m.w.ids[r]))`,
				New:  `got.claims = append(got.claims, m.byName(c).key(m.w.ids[r]))`,
			},
			{
				File: "internal/sim/watch.go",
				Old:  `m.core.ClaimPut(m.clock(), f.shard, c.claim.key(id))`,
				New:  `m.core.ClaimPut(m.clock(), f.shard, m.byName(c.claim).key(id))`,
			},
			{
				File: "internal/sim/watch.go",
				Old:  `func (c claim) key(id string) core.ClaimKey {`,
				New: `func (m *member) byName(c claim) claim {
					if m.w.store.leases[c.lease].owner == m && len(m.keepers) > 0 {
						c.lease = m.keepers[len(m.keepers)-1].id
					}
					return c
				}

				func (c claim) key(id string) core.ClaimKey {`,
			},
		},
	},
	{
		Name:      "forget-call-number",
		Breaks:    "a receiver does not compare the numbers of the requests under one token",
		Simulated: true,
		Changes: []Change{{
			File: "internal/sim/receiver.go",
			Old:  `knows := w.plan.Receivers == KnowNumbers`,
			New:  `knows := false`,
		}},
	},
}
