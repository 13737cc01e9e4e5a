//go:build unix

package main

import (
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// In these scenarios an operator changes etcd behind the members' backs. Until they hear of it, two may handle one
// resource; the scenarios measure for how long.

var handScenarios = []scenario{
	{"all claims of a member deleted by hand", true, 1, func(c *chaos) { c.byHand(0, (*hand).deleteClaims) }},
	{"all claim leases of a member revoked by hand", false, 1, func(c *chaos) { c.byHand(0, (*hand).revokeClaims) }},
	{"the lease of a member's key revoked by hand", false, 1, func(c *chaos) { c.byHand(0, (*hand).revokeMember) }},
	{"all leases of a member revoked by hand", false, 1, func(c *chaos) { c.byHand(0, (*hand).revokeAll) }},
	{
		"the same, of a member that hears of it 1 s late", true, 1,
		func(c *chaos) { c.byHand(time.Second, (*hand).revokeAll) },
	},
}

// hand is an operator's hand, with the keys of the member that it is laid on.
type hand struct {
	*chaos
	etcd   *clientv3.Client
	member clientv3.LeaseID
	claims map[string]clientv3.LeaseID // key → lease
}

// byHand damages a member that hears of it late, and waits until everything is as it was.
func (c *chaos) byHand(late time.Duration, damage func(*hand)) {
	c.t.Helper()
	proxy, before := c.behindProxy(200)
	h := &hand{chaos: c, etcd: embeddedtest.Client(c.t, c.endpoints...), claims: map[string]clientv3.LeaseID{}}
	resp, err := h.etcd.Get(c.t.Context(), "/drm/e2e/", clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		switch key := string(kv.Key); {
		case strings.HasSuffix(key, "/group/members/a"):
			h.member = clientv3.LeaseID(kv.Lease)
		case strings.Contains(key, "/claims/") && before[key[strings.LastIndex(key, "/")+1:]] == "a":
			h.claims[key] = clientv3.LeaseID(kv.Lease)
		}
	}
	if h.member == 0 || len(h.claims) == 0 {
		c.t.Fatalf("the member's lease is %x, and it has %d claims", h.member, len(h.claims))
	}
	proxy.Delay(late)
	fault := c.blink()
	damage(h)
	c.holders("the member has heard of it", func(map[string]string) bool { return c.ended(fault) > 0 })
	proxy.Delay(0)
	after := c.all("a", "b")
	for r, m := range before {
		if after[r] != m {
			c.t.Errorf("%s was with %s, and is with %s after all is over", r, m, after[r])
		}
	}
	c.onlyTouched(fault, before, "a")
	c.takeover = c.took(fault)
	c.note("%d of the %d resources that it had were ended and begun anew", len(c.touched(fault, before)), len(h.claims))
}

func (h *hand) deleteClaims() {
	h.t.Helper()
	for key := range h.claims {
		if _, err := h.etcd.Delete(h.t.Context(), key); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hand) revokeClaims() {
	h.t.Helper()
	revoked := map[clientv3.LeaseID]bool{}
	for _, id := range h.claims {
		if !revoked[id] {
			revoked[id] = true
			h.revoke(id)
		}
	}
}

func (h *hand) revokeMember() {
	h.t.Helper()
	h.revoke(h.member)
}

func (h *hand) revokeAll() {
	h.t.Helper()
	h.revokeMember()
	h.revokeClaims()
}

func (h *hand) revoke(id clientv3.LeaseID) {
	h.t.Helper()
	if _, err := h.etcd.Revoke(h.t.Context(), id); err != nil {
		h.t.Fatal(err)
	}
}
