package sim

import (
	"fmt"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// Counter names one thing that the simulation counts.
type Counter int

// The counters, besides those of the faults (see befell) and of what becomes of requests (see became).
const (
	Handled        Counter = iota // calls of Handle
	Updated                       // calls of Update
	Terminated                    // calls of Terminate
	Failed                        // calls that returned an error, panicked, or whose time was up
	Panicked                      // calls that panicked
	CutShort                      // calls of Terminate that the end of their lease cut short
	Stuck                         // calls that were given up
	Refused                       // calls that were not made: their lease or their reason had ended
	Cancelled                     // calls whose context was ended
	Vanished                      // claims that were gone while they were handled
	Conflicts                     // claims that met another's
	Fenced                        // leases that were fenced in time
	Outlasted                     // answers to keepalives after their lease's time, which KeepOnOutage had let pass
	Doubled                       // steps after which two handled a resource, one of them cut off, under KeepOnOutage
	Expired                       // leases that etcd gave up
	Promoted                      // leases that a new leader of etcd gave their whole TTL again
	Resumed                       // processes that went on after a pause of more than a TTL
	Restarted                     // processes that came back under their id
	RestartedEarly                // processes that came back while their former life still had claims
	Stopped                       // processes that ended in order
	Overdue                       // processes whose orderly end took too long
	Lists                         // lists of a shard
	Relists                       // lists because a watch was cancelled
	Compacted                     // lists because etcd had compacted what a watch had not told yet
	Resynced                      // lists because it was time for one
	Missed                        // events that a watch lost
	Reordered                     // news that came after newer news of another shard
	Clocks                        // members whose clock ran faster or slower than etcd's
	Hanging                       // calls that ignore their context, and return long after
	Endless                       // calls that never return
	Delayed                       // events that a busy loop got to later
	Requested                     // requests to receivers
	Belated                       // requests that a receiver got to when nobody waited for the answer any more
	Repeated                      // requests that a receiver got twice
	Outdated                      // requests that a receiver refused, since it had seen newer ones
	CutOff                        // requests whose answer nobody waited for, since the claim or the time had ended
	GivenOn                       // resources that a member gave to another one, since they did not work there
	Declined                      // changes of what a member declines
	Lacking                       // resources that nobody had room for, at a look
	Keyless                       // resources whose key nobody could find
	Poisoned                      // processes that died of a poison resource
	Quarantined                   // resources that were quarantined
	Isolated                      // calls of Handle beside which nothing else began in the group
	Edited                        // trails of dead members that were shortened
	Broken                        // handlings that broke
	Lapsed                        // handlings that were gone with the process of their service
	Outlived                      // handlings that an earlier life of a receiver was given
	Doubted                       // the same, where a later life may have been given them, too
	Orphaned                      // things that outlived the process that had started them
	RevokedDead                   // leases of dead processes that a supervisor has revoked
	Looked                        // views, or registrations, of the group that a member has taken note of
	LeftRunning                   // steps after which a receiver ran what a failed Terminate or cut-off request left
	singles
)

var singleNames = [singles]string{
	"handled", "updated", "terminated", "failed", "panicked", "cut short", "stuck", "refused", "cancelled", "vanished",
	"conflicts", "fenced", "outlasted", "doubled", "expired", "promoted", "resumed", "restarted", "restarted early",
	"stopped", "overdue", "lists", "relists",
	"compacted", "resynced", "missed", "reordered", "clocks", "hanging", "endless", "delayed",
	"requested", "belated", "repeated", "outdated", "cut off", "given on", "declined", "lacking", "keyless",
	"poisoned", "quarantined", "isolated", "edited", "broken", "lapsed", "outlived", "doubted",
	"orphaned", "revoked by a supervisor", "looked at the group",
	"left running",
}

// request is a kind of request of members to etcd.
type request int

const (
	claiming request = iota
	releasing
	probing
	saving
	summing
	unsumming
	tracing
	granting
	renewing
	revoking
	listing
	requests
)

var requestNames = [requests]string{
	"claim", "release", "probe", "state write", "summary", "summary's end", "trail", "grant", "keepalive", "revoke",
	"list",
}

// fate is what became of a request.
type fate int

const (
	sent       fate = iota
	refused         // etcd answered that it has not applied the request
	unanswered      // there was no answer, and the request was not applied by then
	lost            // the request was applied, and the answer was lost
	late            // the request was applied when nobody waited for it any more
	fates
)

var fateNames = [fates]string{"sent", "refused", "unanswered", "applied and unanswered", "applied late"}

const (
	beforeGroup = int(singles) + int(kinds) + int(requests)*int(fates)
	counters    = beforeGroup + int(groupsim.Kinds)
)

// befellGroup counts events of the group of a kind.
func befellGroup(k groupsim.Kind) Counter { return Counter(beforeGroup + int(k)) }

// befell counts faults of a kind.
func befell(k Kind) Counter { return singles + Counter(k) }

// became counts the requests that had a fate.
func became(r request, f fate) Counter {
	return singles + Counter(kinds) + Counter(int(r)*int(fates)+int(f))
}

func (c Counter) String() string {
	switch {
	case c < singles:
		return singleNames[c]
	case c < singles+Counter(kinds):
		return "fault " + Kind(c-singles).String()
	case int(c) >= beforeGroup:
		return "group " + groupsim.Kind(int(c)-beforeGroup).String()
	}
	n := int(c-singles) - int(kinds)
	return requestNames[n/int(fates)] + " " + fateNames[n%int(fates)]
}

// Counts show what happened in one run or in many: a simulation in which something never happens proves nothing about
// that.
type Counts [counters]int

// Add adds the counts of o.
func (c *Counts) Add(o *Counts) {
	for i, n := range o {
		c[i] += n
	}
}

// Missing names what never happened.
func (c *Counts) Missing() []string {
	var names []string
	for i, n := range c {
		if n == 0 {
			names = append(names, Counter(i).String())
		}
	}
	return names
}

func (c *Counts) String() string {
	parts := make([]string, len(c))
	for i, n := range c {
		parts[i] = fmt.Sprintf("%v %d", Counter(i), n)
	}
	return strings.Join(parts, ", ")
}

// count counts one thing that happened.
func (w *world) count(c Counter) { w.counts[c]++ }
