package picture

import (
	"fmt"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// untilEnds is the time until a lease ends that nobody renews; nil if it is not known.
func untilEnds(l Lease, what string) *Wait {
	if !l.Known || l.TTL == 0 {
		return nil
	}
	return &Wait{Until: what, Left: l.Left, Of: l.TTL}
}

const (
	shorterTTL = "a shorter LeaseTTL (--lease-ttl) makes others take over sooner after the next death"
	callLimits = "HandleTimeout and TerminateTimeout (--handler-timeout) bound the calls"
)

// explainUnclaimed says why nobody has a resource that should be handled.
func (f *facts) explainUnclaimed() {
	v, owner := f.view, f.Expected
	_, awaited := v.Awaited(owner)
	switch {
	case awaited:
		f.explainAwaited()
	case owner == "":
		f.explainNobody()
	case v.IsFull(f.Shard):
		f.hinders(ReasonFull, fmt.Sprintf("there is no room: %s and all others are full (MaxResources)", owner),
			"start a member, or raise MaxResources (--max-resources)")
	case f.leases[owner].stale():
		f.explainStale(owner, f.leases[owner])
	default:
		text := fmt.Sprintf("%s has not claimed it yet", owner)
		remedy := ""
		if v.DeclinesAny(owner) {
			text += "; it is full (MaxResources), and takes as much as fits"
			remedy = "start a member, or raise MaxResources (--max-resources)"
		}
		f.hinders(ReasonNotClaimed, text, remedy)
		f.explainQueue(owner)
	}
}

// explainAwaited says that a resource waits for the return of its member.
func (f *facts) explainAwaited() {
	back, _ := f.view.Awaited(f.Expected)
	f.add(Reason{
		Code: ReasonAwaited, Hinders: true,
		Text: fmt.Sprintf("%s has stopped and is expected back %s; what belongs to it waits", f.Expected, until(back)),
		Wait: untilEnds(f.awaited, f.Expected+"'s reservation ends and others take over"),
		Remedy: "start " + f.Expected + "; " + command("drain", f.Expected) +
			" gives what it had to others now; Rejoin (--rejoin) bounds the time",
	})
}

// explainNobody says why no member is to have the resource.
func (f *facts) explainNobody() {
	if len(f.view.Members) == 0 {
		f.hinders(ReasonNoMember, "there is no live member", "start a member of the app")
		return
	}
	if !someHaveJoined(f.view) {
		f.hinders(ReasonNobodyActive, "no live member is active: "+f.verdicts(), "")
		return
	}
	cures := []string{}
	for _, s := range f.Members {
		if _, live := f.view.Members[s.Member]; live {
			if cure := f.cure(s.Member, s.Verdict); cure != "" {
				cures = append(cures, cure)
			}
		}
		if s.Verdict == membership.VerdictNoSlots {
			f.hinders(ReasonNoSlots, s.Member+" could take it, and has no slot on the ring yet", "")
			return
		}
	}
	if len(cures) > mostNamed {
		cures = cures[:mostNamed]
	}
	f.hinders(ReasonNobodyTakes, "no live member may own the shard: "+f.verdicts(),
		strings.Join(append(cures, "start a member"), ", or "))
}

// mostNamed is how many members a sentence names.
const mostNamed = 5

// verdicts says what the live members are to the shard.
func (f *facts) verdicts() string {
	var all []string
	more := 0
	for _, s := range f.Members {
		if _, live := f.view.Members[s.Member]; !live {
			continue
		}
		if len(all) == mostNamed {
			more++
			continue
		}
		all = append(all, s.Member+" "+VerdictText(s.Verdict))
	}
	text := strings.Join(all, ", ")
	if more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// explainStale says that a member does not renew a lease.
func (f *facts) explainStale(member string, l Lease) {
	next := f.view.Foresee(nil, func(id string) bool { return id == member }).Owners[f.Shard]
	what := fmt.Sprintf("%s's key expires", member)
	if next != "" {
		what += fmt.Sprintf(" and %s takes over", next)
	}
	f.add(Reason{
		Code: ReasonLeaseStale, Hinders: true,
		Text: fmt.Sprintf("%s does not renew its lease: it is gone, hangs, or cannot reach etcd", member),
		Wait: untilEnds(l, what), Remedy: shorterTTL,
	})
}

// explainForeign says why a member has the claim that should not have it.
func (f *facts) explainForeign() {
	c := f.Claim
	m, live := f.view.Members[c.Member]
	then, before := orNobody(f.Expected)+" can claim it", "before "+f.Expected+" can claim it"
	switch {
	case !f.wanted():
		then, before = "nobody has it any more", "since it is not wanted any more"
	case f.Expected == "":
		f.explainNobody()
		then, before = "nobody has it", "since it may not own the shard"
	}
	ends := fmt.Sprintf("the lease of %s's claim ends, and %s", c.Member, then)
	stale := c.Lease.stale()
	switch {
	case c.Lease.ID == 0:
		f.hinders(ReasonNoLease, fmt.Sprintf("the claim of %s has no lease, and never ends by itself", c.Member),
			"whoever has put the key has to delete it")
		return
	case !live:
		f.add(Reason{
			Code: ReasonLeaseRuns, Hinders: true, Remedy: shorterTTL, Wait: untilEnds(c.Lease, ends),
			Text: fmt.Sprintf("%s is gone, and its claim lives on until its lease ends", c.Member),
		})
		return
	case stale || c.MemberLease.stale():
		f.add(Reason{
			Code: ReasonLeaseStale, Hinders: true, Remedy: shorterTTL, Wait: untilEnds(c.Lease, ends),
			Text: fmt.Sprintf("%s does not renew its lease: it is gone, hangs, or cannot reach etcd", c.Member),
		})
		return
	}
	text := fmt.Sprintf("%s has it, and must terminate it %s", c.Member, before)
	if why := f.whyNot(c.Member); why != "" && f.wanted() && f.Expected != "" {
		text = fmt.Sprintf("%s has it, which %s, and must terminate it %s", c.Member, why, before)
	}
	f.hinders(ReasonHandover, text,
		callLimits+"; with HoldUntilTerminated, the claim stays until Terminate has succeeded")
	f.explainCalls()
	if c.State == claims.Failed && c.Error != "" && !f.has(ReasonCallRuns) {
		f.hinders(ReasonFailed, "the last failure there: "+c.Error, "")
	}
	if c.Token < m.CreateRevision {
		f.former(ends)
	}
}

// whyNot says why a member is not to have the resource, if that is because of the member.
func (f *facts) whyNot(member string) string {
	switch verdict := f.view.Verdict(member, f.Shard); verdict {
	case membership.VerdictTakes, membership.VerdictOwner, membership.VerdictNoSlots:
		return ""
	default:
		return VerdictText(verdict)
	}
}

// former says that a claim is older than the registration of its member.
func (f *facts) former(ends string) {
	f.add(Reason{
		Code: ReasonFormerLife, Hinders: true, Wait: untilEnds(f.Claim.Lease, ends),
		Text: fmt.Sprintf("the claim is older than %s's registration: if it is one of an earlier life, "+
			"it ends with its lease", f.Claim.Member),
		Remedy: shorterTTL,
	})
}

// explainOwn says how far the member is that has the claim and should have it.
func (f *facts) explainOwn() {
	c := f.Claim
	m, live := f.view.Members[c.Member]
	if _, awaited := f.view.Awaited(c.Member); awaited {
		f.explainAwaited()
	}
	switch {
	case !live: // it is expected back
		f.add(Reason{
			Code: ReasonLeaseRuns, Hinders: true, Remedy: shorterTTL,
			Text: fmt.Sprintf("%s is gone, and its claim lives on until its lease ends", c.Member),
			Wait: untilEnds(c.Lease, fmt.Sprintf("the lease of %s's claim ends", c.Member)),
		})
		return
	case c.Lease.ID == 0:
		f.hinders(ReasonNoLease, fmt.Sprintf("the claim of %s has no lease, and never ends by itself", c.Member),
			"whoever has put the key has to delete it")
	case f.leases[c.Member].stale():
		f.explainStale(c.Member, f.leases[c.Member])
	case c.Lease.stale():
		f.add(Reason{
			Code: ReasonLeaseStale, Hinders: true, Remedy: shorterTTL,
			Text: fmt.Sprintf("nobody renews the lease of the claim: it is one of an earlier life of %s", c.Member),
			Wait: untilEnds(c.Lease, fmt.Sprintf("the claim's lease ends, and %s can claim it anew", c.Member)),
		})
		return
	}
	switch c.State {
	case claims.Quarantined:
		text := c.Error
		if f.Quarantine != nil {
			text = f.Quarantine.Text()
		}
		f.hinders(ReasonQuarantined, "it is quarantined: "+text, command("retry", f.Resource))
	case claims.Failed:
		text := "it has failed; it is tried again after pauses that grow, without end or HandleAttempts " +
			"(--handle-attempts) times"
		if c.Error != "" {
			text += ": " + c.Error
		}
		f.hinders(ReasonFailed, text, "mend what the error says, and "+command("retry", f.Resource)+
			" has it tried at once; HandleBackoff and HandleBackoffMax bound the pause, and MoveAfter (--move-after) "+
			"lets another member try")
		f.explainCalls()
	case claims.Claimed:
		f.explainCalls()
		if !f.has(ReasonCallRuns) {
			f.hinders(ReasonBeginning, c.Member+" has claimed it, and its Handle has not succeeded yet", "")
			f.explainQueue(c.Member)
		}
		if c.Token < m.CreateRevision {
			f.former(fmt.Sprintf("the claim's lease ends, and %s can claim it anew", c.Member))
		}
	default:
		if c.Error != "" {
			f.explainCalls()
		}
	}
}

// explainCalls tells of calls of the handler that take long.
func (f *facts) explainCalls() {
	c := f.Claim
	if strings.Contains(c.Error, "has been running since") {
		f.add(Reason{
			Code: ReasonCallRuns, Text: fmt.Sprintf("at %s, %s", c.Member, c.Error), Remedy: callLimits,
			Hinders: c.State != claims.Active || c.Member != f.Expected,
		})
	}
	if n := f.figures[c.Member].Stuck; n > 0 {
		f.notes(ReasonStuck, fmt.Sprintf("%d calls of %s's handler were given up and have not returned", n, c.Member),
			"restart "+c.Member)
	}
}

// explainQueue says for what a resource of a member may have to wait.
func (f *facts) explainQueue(member string) {
	figures := f.figures[member]
	if figures.WaitingForBudget > 0 {
		f.hinders(ReasonBudget, fmt.Sprintf("%d resources of %s wait until a rate allows their Handle",
			figures.WaitingForBudget, member), "raise HandleRate (--handle-rate) or KeyRate (--key-rate)")
	}
	if n := figures.Waiting - figures.WaitingForBudget; n > 0 {
		f.hinders(ReasonConcurrency, fmt.Sprintf("%d calls of %s wait for others to return", n, member),
			"raise HandleConcurrency (--handle-concurrency)")
	}
	if a := f.alone; a.Member != "" && (a.Member == member || a.ID == f.Resource) {
		text := fmt.Sprintf("%s handles %q alone, since it is suspected of deaths; everything else there waits",
			a.Member, a.ID)
		if a.ID == f.Resource {
			text = fmt.Sprintf("%s handles it alone, since it is suspected of deaths", a.Member)
		}
		f.hinders(ReasonAlone, text, "")
	}
}

// has says whether a reason is among those found so far.
func (f *facts) has(code string) bool {
	for _, r := range f.Reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}
