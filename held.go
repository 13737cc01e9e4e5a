package drm

import (
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/member"
)

// HeldClaim is a claim under which a member handles a resource now.
type HeldClaim struct {
	// Claim has the resource's data, as the handler was given them last, and the token. It is valid for as long as its
	// Remaining says, and takes reports.
	Claim Claim
	Shard int
	State State     // StateActive; or StateFailed if the handler has reported that what it began fails
	Since time.Time // when State was reached, by this machine's clock
	Error string    // why the state is StateFailed; else empty
}

// HeldClaims lists the claims under which the member handles resources now, in the order of the ids: what Held lists,
// with the data. A service that was restarted, and knows nothing of what it was given, finds here what that was. The
// list is empty once the manager has stopped.
func (m *Manager) HeldClaims() []HeldClaim {
	held := m.member.Held()
	all := make([]HeldClaim, len(held))
	for i, h := range held {
		all[i] = m.heldClaim(h)
	}
	slices.SortFunc(all, func(a, b HeldClaim) int { return strings.Compare(a.Claim.Resource.ID, b.Claim.Resource.ID) })
	return all
}

// HeldClaim returns the claim under which the member handles a resource now; ok is false if it does not.
func (m *Manager) HeldClaim(id string) (claim HeldClaim, ok bool) {
	held, ok := m.member.HeldOne(id)
	if !ok {
		return HeldClaim{}, false
	}
	return m.heldClaim(held), true
}

func (m *Manager) heldClaim(h member.Held) HeldClaim {
	user := userHandler{m.cfg.Handler, m.cfg.App, m.ID()}
	c := HeldClaim{Claim: user.claim(h.Claim), Shard: h.Shard, State: StateActive, Since: h.Since}
	if h.Failed {
		c.State, c.Error = StateFailed, h.Error
	}
	return c
}
