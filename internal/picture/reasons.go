package picture

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// Reason is one thing that explains where a resource is.
type Reason struct {
	Code string // one of the constants below
	Text string // for people: one sentence without a period
	// Hinders says that the resource is not handled, or not where it should be, because of this. Otherwise it only
	// explains why the resource belongs where it does.
	Hinders bool
	Wait    *Wait  // nil: it is not known how long this takes
	Remedy  string // for people: the command or the setting that changes it; empty: none does, or none is needed
}

// Wait is a time that ends by itself.
type Wait struct {
	Until string        // what happens then, such as: the lease of m1's claim ends
	Left  time.Duration // in whole seconds
	Of    time.Duration // the whole time
}

// Text says how much of the time is left.
func (w Wait) Text() string {
	return fmt.Sprintf("%d s of %d s until %s", int(w.Left.Seconds()), int(w.Of.Seconds()), w.Until)
}

// The codes of reasons. A later version may have further ones.
const (
	ReasonNoConfig           = "no-config"            // the app's config key is gone
	ReasonSchemas            = "schemas"              // members of versions that are too far apart
	ReasonNotInCatalogue     = "not-in-catalogue"     // nobody wants the resource
	ReasonBadItem            = "bad-item"             // the source has it, in a form that cannot be taken
	ReasonTooLarge           = "too-large"            // the source has it, and it is too large for etcd
	ReasonEntryNotUnderstood = "entry-not-understood" // the catalogue's entry cannot be read
	ReasonSuspended          = "suspended"            // an operator has suspended it; or it was deallocated
	ReasonClaimNotUnderstood = "claim-not-understood" // the claim's key cannot be read
	ReasonQuarantined        = "quarantined"          // members have died while they began with it
	ReasonMoved              = "moved"                // it did not work at the owner of its shard
	ReasonMoveNotInForce     = "move-not-in-force"    // it was moved to a member that does not take it
	ReasonPinned             = "pinned"               // an operator has pinned the shard
	ReasonPinNotInForce      = "pin-not-in-force"     // the shard is pinned to a member that does not take it
	ReasonPlaced             = "placed"               // the coordinator, or an operator, has placed the shard
	ReasonPlaceNotInForce    = "place-not-in-force"   // the shard is placed at a member that does not take it
	ReasonKept               = "kept"                 // its member is drained, and keeps the shard for now
	ReasonLastResort         = "last-resort"          // nobody takes the shard, so one has it that is full or cordoned
	ReasonOlder              = "older-rules"          // a member of an older version decides
	ReasonUnreadyIgnored     = "unready-ignored"      // its member is not ready, as too many are
	ReasonDrainsIgnored      = "drains-ignored"       // its member is drained, as all are
	ReasonNoMember           = "no-member"            // there is no live member
	ReasonNobodyActive       = "nobody-active"        // no live member has joined
	ReasonNobodyTakes        = "nobody-takes"         // all live members are drained, or have the weight 0
	ReasonNoSlots            = "no-slots"             // no member that could take it has a slot on the ring yet
	ReasonAwaited            = "awaited"              // its member has stopped and is expected back
	ReasonFull               = "full"                 // no member has room
	ReasonLeaseStale         = "lease-stale"          // a member does not renew its lease: it is gone, or hangs
	ReasonNotClaimed         = "not-claimed"          // its member has not claimed it yet
	ReasonLeaseRuns          = "lease-runs"           // the claim of a member that is gone ends with its lease
	ReasonFormerLife         = "former-life"          // the claim may be one of an earlier life of its member
	ReasonNoLease            = "no-lease"             // the claim never ends by itself
	ReasonHandover           = "handover"             // the member that has it must terminate it first
	ReasonCallRuns           = "call-runs"            // a call of the handler takes long
	ReasonStuck              = "stuck"                // calls of the member were given up and have not returned
	ReasonFailed             = "failed"               // the last Handle failed, or what it began
	ReasonBudget             = "budget"               // it may have to wait for a rate
	ReasonConcurrency        = "concurrency"          // it may have to wait for other calls
	ReasonAlone              = "alone"                // a suspect is handled alone, and everything else waits
	ReasonBeginning          = "beginning"            // it was claimed, and Handle has not succeeded yet
)

// explain finds the reasons, and whether all is fine.
func (f *facts) explain() {
	f.Reasons = []Reason{}
	f.explainApp()
	f.explainEntry()
	f.explainPlace()
	switch {
	case f.Claim != nil && !f.Claim.Understood:
		f.hinders(ReasonClaimNotUnderstood, "its claim is not understood; members wait for its end",
			"whoever has put the key has to delete it")
	case f.Claim != nil && (f.Claim.Member != f.Expected || !f.wanted() && !f.unreadable()):
		f.explainForeign()
	case f.Claim != nil:
		f.explainOwn()
	case f.wanted():
		f.explainUnclaimed()
	}
	f.Fine = f.wanted() == (f.Claim != nil) &&
		(!f.wanted() || f.Claim.Member == f.Expected && f.State == claims.Active) &&
		!slices.ContainsFunc(f.Reasons, func(r Reason) bool { return r.Hinders })
}

// unreadable says whether the catalogue's entry cannot be read: whoever handles the resource goes on.
func (f *facts) unreadable() bool { return f.Entry != nil && !f.Entry.Understood }

func (f *facts) add(r Reason) { f.Reasons = append(f.Reasons, r) }

func (f *facts) hinders(code, text, remedy string) {
	f.add(Reason{Code: code, Text: text, Remedy: remedy, Hinders: true})
}

func (f *facts) notes(code, text, remedy string) {
	f.add(Reason{Code: code, Text: text, Remedy: remedy})
}

// command is a command about an id, as one types it in a shell.
func command(verb, id string) string {
	if strings.HasPrefix(id, "-") {
		verb += " --"
	}
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.ContainsRune("-_.:@/,+", c)
	}
	if strings.IndexFunc(id, func(c rune) bool { return !plain(c) }) >= 0 {
		id = "'" + strings.ReplaceAll(id, "'", `'\''`) + "'"
	}
	return "`drmctl " + verb + " " + id + "`"
}

func (f *facts) explainApp() {
	if f.gone {
		f.hinders(ReasonNoConfig, "the app's config key is gone from etcd, or was made anew: members claim nothing",
			"put the key back as it was, and restart the members; `drmctl verify` tells more")
	}
	if text := SchemasOf(f.view); text != "" {
		f.hinders(ReasonSchemas, text, "")
	}
}

// explainEntry says why the catalogue does not want the resource, if so.
func (f *facts) explainEntry() {
	allocate := command("allocate --id", f.Resource)
	switch {
	case f.unreadable():
		f.hinders(ReasonEntryNotUnderstood,
			"its entry in the catalogue is not understood: who handles it goes on, and nobody begins with it",
			allocate+" overwrites the entry")
	case f.Entry == nil:
		f.explainMissing(allocate)
	case f.Entry.Suspension != nil:
		f.notes(ReasonSuspended, suspendedBy(f.Entry.Suspension), command("resume", f.Resource))
	case f.Entry.Suspended:
		f.notes(ReasonSuspended, "it was deallocated, and is suspended for as long as its source has it", allocate)
	}
}

func (f *facts) explainMissing(allocate string) {
	for _, b := range f.source.BadItems {
		if b.ID == f.Resource && !b.TooLarge {
			text := fmt.Sprintf("the source has it as item %d, which cannot be taken: %s", b.Index, b.Error)
			f.notes(ReasonBadItem, text, "mend the source, then `drmctl source fetch`")
			return
		}
	}
	if slices.Contains(f.source.Rejected, f.Resource) {
		f.notes(ReasonTooLarge, "the source has it, and it does not fit into one request to etcd",
			"make its data smaller, or raise etcd's --max-request-bytes")
		return
	}
	text := "the catalogue does not have it: " +
		"neither an allocation nor the source's last answer that was accepted wants it"
	if f.source.Error != "" {
		text += "; the source's last error is: " + f.source.Error
	}
	f.notes(ReasonNotInCatalogue, text, allocate)
}

// explainPlace says why the resource belongs where it does.
func (f *facts) explainPlace() {
	for _, rule := range f.Rulings {
		f.explainRuling(rule)
	}
	owner := f.Trace.Owner
	m := f.view.Members[owner]
	drained := f.view.Ordered(owner)
	switch {
	case owner == "" || owner != f.Expected: // nobody has the shard, or the resource was moved elsewhere
	case m.State == membership.Unready && f.view.UnreadyIgnored():
		f.notes(ReasonUnreadyIgnored,
			fmt.Sprintf("%s is not ready (%s), which is ignored since too few members are ready", owner, reasonOf(m)),
			"mend what the members wait for, or lower MinReady (--min-ready)")
	case drained && f.view.DrainsIgnored():
		f.notes(ReasonDrainsIgnored, fmt.Sprintf("%s is drained, which is ignored since every member is", owner),
			command("undrain", owner)+", or start a member that is not drained")
	case f.view.Kept(owner) > 0:
		what, remedy := "drained", command("drain --at-once", owner)
		if !drained {
			what, remedy = "given the weight 0", strings.TrimSuffix(command("weight --at-once", owner), "`")+" 0`"
		}
		remedy += ", or raise MaxMoving (--max-moving)"
		f.notes(ReasonKept, fmt.Sprintf(
			"%s is %s, and keeps the shard until the coordinator has placed it elsewhere (it keeps %d shards)",
			owner, what, f.view.Kept(owner)), remedy)
	}
	if f.Trace.LastResort {
		f.notes(ReasonLastResort, fmt.Sprintf(
			"no member takes the shard, so it belongs to %s, which is %s", owner, f.unwilling(owner)),
			"start a member, "+f.willingness(owner))
	}
	if f.Trace.Older {
		f.notes(ReasonOlder, fmt.Sprintf(
			"%s owns the shard by the rules of an older version, since members of that version live", orNobody(owner)),
			"upgrade all members")
	}
}

// unwilling says why an owner would rather not have a shard.
func (f *facts) unwilling(owner string) string {
	if f.view.Declines(owner, f.Shard) {
		return "full (MaxResources)"
	}
	return "cordoned"
}

func (f *facts) willingness(owner string) string {
	if f.view.Declines(owner, f.Shard) {
		return "or raise MaxResources (--max-resources)"
	}
	return "or " + command("uncordon", owner)
}

func (f *facts) explainRuling(r Ruling) {
	who := byWords(r.By, r.Reason)
	shardNumber := fmt.Sprintf("--shard %d", f.Shard)
	switch r.Kind {
	case RulingMove:
		if r.InForce {
			f.notes(ReasonMoved,
				fmt.Sprintf("it was moved to %s, since it did not work at %s: %s", r.Member, r.By, r.Reason), "")
			return
		}
		f.notes(ReasonMoveNotInForce, fmt.Sprintf("it was moved from %s to %s, which is not in force: %s",
			r.By, r.Member, f.obstacle(r)), f.cure(r.Member, r.Obstacle))
	case RulingPin:
		if r.InForce {
			f.notes(ReasonPinned, fmt.Sprintf("the shard is pinned to %s%s", r.Member, who),
				"`drmctl unpin "+shardNumber+"`")
			return
		}
		f.notes(ReasonPinNotInForce, fmt.Sprintf("the shard is pinned to %s%s, which is not in force: %s",
			r.Member, who, f.obstacle(r)), f.cure(r.Member, r.Obstacle))
	case RulingException:
		why := placedWords[r.Why]
		if why == "" {
			why = r.Why
		}
		if !r.InForce {
			f.notes(ReasonPlaceNotInForce, fmt.Sprintf("the shard is placed at %s (%s)%s, which is not in force: %s",
				r.Member, why, who, f.obstacle(r)), f.cure(r.Member, r.Obstacle))
			return
		}
		if f.Trace.Owner != r.Member {
			who += fmt.Sprintf("; %s is next, since of %s it holds that %s", f.Trace.Owner, r.Member, f.obstacle(r))
		}
		f.notes(ReasonPlaced, fmt.Sprintf("the shard is placed at %s (%s)%s", r.Member, why, who), "")
	case RulingTable:
		f.notes(ReasonPlaced, fmt.Sprintf("an older version's table places the shard at %s", r.Member), "")
	}
}

// placedWords say why there is an exception.
var placedWords = map[string]string{
	string(membership.WhyBound):   "to keep the load within the bound",
	string(membership.WhyDrain):   "its former owner is drained",
	string(membership.WhyLeave):   "its former owner has stopped",
	string(membership.WhyJoin):    "to give a member its share that has joined",
	string(membership.WhyMove):    "an operator has moved it",
	string(membership.WhyVersion): "to keep it in place during a rollout",
	string(membership.WhyRing):    "to keep it in place although the ring has changed",
}

func byWords(by, reason string) string {
	words := ""
	if by != "" {
		words = " by " + by
	}
	if reason != "" {
		words += ": " + reason
	}
	return words
}

func orNobody(id string) string {
	if id == "" {
		return "nobody"
	}
	return id
}

// obstacle says why a ruling is not in force.
func (f *facts) obstacle(r Ruling) string {
	verdict := r.Obstacle
	if verdict == "" {
		verdict = f.view.Verdict(r.Member, f.Shard)
	}
	switch verdict {
	case membership.VerdictTakes, membership.VerdictOwner, membership.VerdictNoSlots:
		if r.Kind == RulingMove {
			return r.Member + " was cordoned before"
		}
		return "another order comes first"
	default:
		return r.Member + " " + VerdictText(verdict)
	}
}

// cure is the command that makes a member take a shard.
func (f *facts) cure(member string, verdict membership.Verdict) string {
	switch verdict {
	case membership.VerdictDraining:
		return command("undrain", member)
	case membership.VerdictCordoned:
		return command("uncordon", member)
	case membership.VerdictNoWeight:
		if _, ordered := f.view.Weights[member]; ordered {
			return command("weight --reset", member)
		}
		return "give " + member + " another weight (--weight)"
	case membership.VerdictFull:
		return "raise MaxResources (--max-resources) of " + member
	case membership.VerdictGone:
		return "start " + member
	default:
		return ""
	}
}

// VerdictText says what a verdict means, to follow the name of the member.
func VerdictText(v membership.Verdict) string {
	switch v {
	case membership.VerdictOwner:
		return "owns it"
	case membership.VerdictTakes:
		return "could take it"
	case membership.VerdictNoSlots:
		return "could take it, and has no slot on the ring yet"
	case membership.VerdictStray:
		return "does not say that it has this slot"
	case membership.VerdictAwaited:
		return "is expected back, and did not have it"
	case membership.VerdictGone:
		return "is not there"
	case membership.VerdictFree:
		return "free"
	case membership.VerdictJoining:
		return "is joining"
	case membership.VerdictLeaving:
		return "is leaving"
	case membership.VerdictUnready:
		return "is not ready"
	case membership.VerdictDraining:
		return "is drained"
	case membership.VerdictNoWeight:
		return "has the weight 0"
	case membership.VerdictFull:
		return "is full (MaxResources)"
	case membership.VerdictCordoned:
		return "is cordoned"
	case membership.VerdictOlder:
		return "does not count by the rules of an older version that lives"
	default:
		return string(v)
	}
}

// detailOf says of a member what people want to know beside a verdict; "" if there is nothing.
func detailOf(v *membership.View, id string) string {
	var all []string
	m, live := v.Members[id]
	if live && m.State == membership.Unready {
		all = append(all, "not ready: "+reasonOf(m))
	}
	order := func(what string, o membership.Order, until time.Time) {
		text := what + byWords(o.By, o.Why)
		if !o.Since.IsZero() {
			text += ", since " + o.Since.UTC().Format(time.RFC3339)
		}
		if !until.IsZero() {
			text += ", until " + until.UTC().Format(time.RFC3339)
		}
		all = append(all, text)
	}
	if d, ok := v.Drains[id]; ok {
		order("drained", d.Order, d.Until)
	}
	if c, ok := v.Cordons[id]; ok {
		order("cordoned", c.Order, c.Until)
	}
	if w, ok := v.Weights[id]; ok {
		order(fmt.Sprintf("weight %d", w.Weight), w.Order, time.Time{})
	}
	if back, awaited := v.Awaited(id); awaited {
		all = append(all, "expected back "+until(back))
	}
	if v.DeclinesAny(id) {
		all = append(all, "full (MaxResources)")
	}
	if s := v.SchemaOf(id); live && s < membership.Schema {
		all = append(all, fmt.Sprintf("knows only version %d of the group's keys", s))
	}
	return strings.Join(all, "; ")
}
