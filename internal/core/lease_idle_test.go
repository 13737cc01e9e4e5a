package core

import (
	"testing"
	"time"
)

// twoLeases makes a Core that handles a and b under lease 1, which is full, and c under lease 2. It revokes a lease
// that was empty for a minute.
func twoLeases(t *testing.T) *fixture {
	f := owning(t, []string{"c", "b", "a"}, func(c *Config) { c.KeysPerLease, c.LeaseIdle = 2, time.Minute })
	f.want("claim a on 1", "claim b on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim c on 2")
	f.active([]string{"a", "b", "c"})
	f.c.Actions()
	return f
}

// gone removes a resource that was claimed at a token from the catalogue, and answers until it is released.
func (f *fixture) gone(id string, token int64) {
	f.t.Helper()
	f.remove(id)
	f.c.Actions()
	f.done(id, OK)
	f.c.Actions()
	f.released(id, token+100)
	f.want()
}

func TestALeaseThatStaysEmptyIsGivenBack(t *testing.T) {
	f := twoLeases(t)
	f.gone("c", 202)
	f.wait(time.Hour)
	f.want() // lease 1 is full, and could not take new claims
	f.gone("a", 200)
	f.wait(time.Minute)
	f.want("revoke 2")
	f.wantHandled("b")
	f.entry("d", "v1")
	f.want("claim d on 1")
	f.gone("b", 201)
	f.claimResult("d", WriteResult{Failed: true})
	f.remove("d")
	f.wait(time.Hour)
	f.want() // the last lease is kept
}

func TestALeaseThatIsUsedNowAndThenIsKept(t *testing.T) {
	f := twoLeases(t)
	f.gone("b", 201)
	token := int64(202)
	for range 5 {
		f.gone("c", token)
		f.wait(50 * time.Second)
		f.entry("x", "v1")
		f.want("claim x on 2") // the lease in use
		f.claimResult("x", WriteResult{Failed: true})
		f.remove("x")
		f.want()
		f.wait(50 * time.Second)
		f.want()
		f.entry("c", "v1")
		f.want("claim c on 2")
		token += 1000
		f.claimed("c", token)
		f.c.Actions()
		f.done("c", OK)
		f.c.Actions()
	}
}

// While a claim is on its way its lease is not empty. A claim whose answer was lost has been seen when the lease is
// revoked, or cannot appear any more.
func TestALeaseWithAClaimOnItsWayIsKept(t *testing.T) {
	f := twoLeases(t)
	f.gone("a", 200)
	f.gone("c", 202)
	f.entry("d", "v1")
	f.want("claim d on 2")
	f.wait(time.Hour)
	f.want()
	f.claimResult("d", WriteResult{Unknown: true})
	f.remove("d")
	f.appears("d", 400, 2)
	f.want("release d 400")
	f.wait(time.Hour)
	f.want()
	f.released("d", 401)
	f.want("release d 0") // the answer to a release that was sent before certainAt proves nothing
	f.released("d", 402)
	f.wait(time.Minute)
	f.want("revoke 2")
}

// A summary goes with its lease.
func TestALeaseIsGivenBackWithItsSummaries(t *testing.T) {
	for _, late := range []bool{false, true} {
		givesBackSummaries(t, late)
	}
}

// givesBackSummaries checks that if the answer to the summary comes in time, or after the lease was revoked.
func givesBackSummaries(t *testing.T, late bool) {
	f := owning(t, []string{"d", "c", "b", "a"}, func(c *Config) {
		c.SummaryLeast, c.KeysPerLease, c.LeaseIdle = 2, 2, time.Minute
	})
	f.c.Actions()
	f.c.LeaseReady(f.now, 2)
	f.c.Actions()
	for i, id := range []string{"a", "b", "c", "d"} {
		f.claimed(id, 110+int64(i))
	}
	f.c.Actions()
	f.allDone("a", "b", "c", "d")
	f.want("write-summary on 1 to 111", "write-summary on 2 to 113")
	f.c.SummaryDone(f.now, 0, 1, 111, WriteResult{Applied: true, Revision: 120})
	if !late {
		f.c.SummaryDone(f.now, 0, 2, 113, WriteResult{Applied: true, Revision: 121})
	}
	for _, id := range []string{"b", "c", "d"} {
		f.gone(id, 200)
	}
	f.wait(2 * time.Minute)
	f.want("revoke 2")
	if late {
		f.c.SummaryDone(f.now, 0, 2, 113, WriteResult{LeaseGone: true})
	}
	f.want()
	if n := len(f.c.shards[0].bundles); n != 1 {
		t.Errorf("%d bundles are kept for one lease", n)
	}
}
