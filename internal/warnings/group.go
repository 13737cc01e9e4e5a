package warnings

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// group warns of what is wrong with the group as a whole.
func (l *list) group() {
	v := l.Health.Roll.View
	if len(v.Members) == 0 {
		l.add(NoMember, nil, time.Time{}, "drmctl agent", "no member is live: nothing is handled")
		l.awaited()
		return
	}
	if v.Coordinator.CreateRevision == 0 {
		l.add(NoCoordinator, nil, time.Time{}, "drmctl members",
			"there is no coordinator: nobody asks the source, and nothing moves for the sake of balance")
	}
	if joined := l.joined(); len(joined) > 0 && !slices.ContainsFunc(joined, v.Eligible) {
		l.add(NobodyTakes, joined, time.Time{}, "drmctl undrain MEMBER or drmctl weight MEMBER --reset",
			"no live member may have anything, since all are drained by force or have the weight 0: %s",
			quoted(joined, len(joined)))
	}
	if l.Status.Schemas != "" {
		l.add(SchemasApart, nil, time.Time{}, "docs/upgrade.md has the rules",
			"versions are too far apart: %s", l.Status.Schemas)
	}
	l.awaited()
	if since := l.Health.LastChange(); l.Now.Sub(since) >= unevenLong {
		if uneven := l.Health.Uneven(); len(uneven) > 0 {
			var words, about []string
			for _, u := range uneven {
				about = append(about, u.Member)
				words = append(words, fmt.Sprintf("%q has %s, and may have %s", u.Member, load(u.Load), load(u.Limit)))
			}
			l.add(Uneven, about, time.Time{}, "drmctl rebalance", "the load is uneven, and nothing corrects it: %s",
				joined(words, len(words)))
		}
	}
}

// load shows a load that is in thousandths of a resource.
func load(thousandths int64) string { return fmt.Sprintf("%.1f", float64(thousandths)/1000) }

// joined lists the members that have joined.
func (l *list) joined() (all []string) {
	for id, m := range l.Health.Roll.View.Members {
		if m.HasJoined() {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// awaited warns of members that are expected back.
func (l *list) awaited() {
	v := l.Health.Roll.View
	var about, words []string
	var since time.Time
	for _, id := range slices.Sorted(maps.Keys(v.Reservations)) {
		r, awaited := v.Awaited(id)
		if !awaited {
			continue
		}
		about = append(about, id)
		word := fmt.Sprintf("%q", id)
		if !r.Until.IsZero() {
			word += " until " + r.Until.UTC().Format(time.RFC3339)
		}
		words = append(words, word)
		if since.IsZero() || r.Since.Before(since) {
			since = r.Since
		}
	}
	if len(about) > 0 {
		l.add(Awaited, about, since, "start the member again, or wait: after that time the others take over",
			"members have stopped and are expected back: %s; %s for them", joined(words, len(words)),
			waits(l.Status.Awaited))
	}
}

func waits(n int) string { return count(n, "resource") + english.PluralWord(n, " waits", " wait") }

// orders warns of orders that have another effect than whoever gave them may expect.
func (l *list) orders() {
	var ignored, absent, others []string // words
	var inVain, gone, about []string     // members
	var inVainSince, goneSince, since time.Time
	var pending []picture.Standing
	for _, o := range l.Health.Roll.Orders() {
		switch {
		case o.Kind == picture.OrderDrain && o.Ignored:
			inVain, ignored = append(inVain, o.Member), append(ignored, fmt.Sprintf("%q", o.Member))
			inVainSince = latest(inVainSince, o.Since)
		case o.Kind == picture.OrderDrain && !o.Live:
			gone, absent = append(gone, o.Member), append(absent, fmt.Sprintf("%q%s", o.Member, origin(o)))
			goneSince = earliest(goneSince, o.Since)
		case o.Kind != picture.OrderDrain && o.Kind != picture.OrderMove && !o.Live:
			about = append(about, o.Member)
			pending = append(pending, o)
			others = append(others, fmt.Sprintf("%q: %s%s", o.Member, deed(o), origin(o)))
			since = earliest(since, o.Since)
		}
	}
	if len(ignored) > 0 {
		l.add(DrainsIgnored, inVain, inVainSince, "drmctl undrain "+theOnly(inVain)+", or start another member",
			"every active member is ordered to be drained, so the orders are ignored: %s",
			joined(ignored, len(ignored)))
	}
	if len(absent) > 0 {
		mend := "drmctl undrain " + theOnly(gone)
		l.add(AbsentDrain, gone, goneSince, mend,
			"drained by order, and not there: %s; such a member takes nothing when it comes, until %s",
			joined(absent, len(absent)), mend)
	}
	if len(others) > 0 {
		l.add(AbsentOrder, about, since, takesBack(pending),
			"orders stand about members that are not there, and that obey them when they come: %s",
			joined(others, len(others)))
	}
}

// theOnly names the member where there is one, so that a command about it can be typed as it stands. An id that a shell
// would not take as it is stays a placeholder, as several ids do.
func theOnly(members []string) string {
	if len(members) != 1 {
		return "MEMBER"
	}
	id := members[0]
	if id == "" || strings.ContainsFunc(id, unlikeName) || strings.HasPrefix(id, "-") {
		return "MEMBER"
	}
	return id
}

// unlikeName says whether a shell may give a character a meaning of its own.
func unlikeName(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:", r)
	return !plain
}

// takesBack are the commands that take some orders back.
func takesBack(orders []picture.Standing) string {
	cordoned, weighed, pins := []string{}, []string{}, []int{}
	for _, o := range orders {
		switch o.Kind {
		case picture.OrderCordon:
			cordoned = append(cordoned, o.Member)
		case picture.OrderWeight:
			weighed = append(weighed, o.Member)
		default:
			pins = append(pins, o.Shard)
		}
	}
	var commands []string
	if len(cordoned) > 0 {
		commands = append(commands, "drmctl uncordon "+theOnly(cordoned))
	}
	if len(weighed) > 0 {
		commands = append(commands, "drmctl weight "+theOnly(weighed)+" --reset")
	}
	switch {
	case len(pins) == 1:
		commands = append(commands, fmt.Sprintf("drmctl unpin --shard %d", pins[0]))
	case len(pins) > 1:
		commands = append(commands, "drmctl unpin --shard NUMBER (drmctl pins lists them)")
	}
	return strings.Join(commands, ", ")
}

// origin says where an order comes from, and until when it stands.
func origin(o picture.Standing) string {
	words := ""
	if o.By != "" {
		words = " by " + o.By
	}
	if o.Why != "" {
		words += ": " + o.Why
	}
	var times []string
	if !o.Since.IsZero() {
		times = append(times, "since "+o.Since.UTC().Format(time.RFC3339))
	}
	if !o.Until.IsZero() {
		times = append(times, "until "+o.Until.UTC().Format(time.RFC3339))
	}
	if len(times) > 0 {
		words += " (" + strings.Join(times, ", ") + ")"
	}
	return words
}

// earliest returns the earlier one of two times; a zero time counts as unknown.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// latest returns the later one of two times.
func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// deed says what an order does.
func deed(o picture.Standing) string {
	switch o.Kind {
	case picture.OrderCordon:
		return "cordoned"
	case picture.OrderWeight:
		return fmt.Sprintf("weight %d", o.Weight)
	case picture.OrderPin:
		return fmt.Sprintf("shard %d pinned", o.Shard)
	default:
		return string(o.Kind)
	}
}

// members warns of what is wrong with single members.
func (l *list) members() {
	l.unready()
	v := l.Health.Roll.View
	var ending, late, stuck []string
	var endings, lates, stucks []string // words
	var lateSince, stuckSince, budgetSince time.Time
	waiting := 0
	for _, m := range l.Health.Members {
		if _, live := v.Members[m.ID]; !live {
			continue
		}
		if m.Stale() {
			ending = append(ending, m.ID)
			endings = append(endings, fmt.Sprintf("%q (%v of %v left)", m.ID, m.Left, m.TTL))
		}
		if !m.BehindSince.IsZero() && l.Now.Sub(m.BehindSince) > viewLate {
			late = append(late, m.ID)
			lates = append(lates, fmt.Sprintf("%q (%d revisions behind%s)", m.ID, m.Behind, l.during(m.BehindSince)))
			lateSince = earliest(lateSince, m.BehindSince)
		}
		if n := m.Figures.Stuck; n > 0 {
			stuck = append(stuck, m.ID)
			stucks = append(stucks, fmt.Sprintf("%q has %d%s", m.ID, n, l.during(m.Figures.StuckSince)))
			stuckSince = earliest(stuckSince, m.Figures.StuckSince)
		}
		if since := m.Figures.BudgetSince; m.Figures.WaitingForBudget > 0 && !since.IsZero() &&
			l.Now.Sub(since) > budgetLong {
			waiting += m.Figures.WaitingForBudget
			budgetSince = earliest(budgetSince, since)
		}
	}
	if len(ending) > 0 {
		l.add(LeaseEnds, ending, time.Time{}, "look at the member's log and machine",
			"nobody renews the lease of %s: when it ends, the others take over", joined(endings, len(endings)))
	}
	if len(late) > 0 {
		l.add(ViewOld, late, lateSince, "look at the member's log; restart it",
			"members act by an old view of the group: %s", joined(lates, len(lates)))
	}
	if len(stuck) > 0 {
		l.add(CallsStuck, stuck, stuckSince, "drmctl assignments --failed names the resources; restart the member",
			"calls of the handler were given up and have not returned: %s", joined(stucks, len(stucks)))
	}
	if waiting > 0 {
		l.add(NoBudget, nil, budgetSince, "raise --handle-rate or --key-rate",
			"%s for a budget%s", waits(waiting), l.during(budgetSince))
	}
}

// unready warns of members that say that they cannot work.
func (l *list) unready() {
	v := l.Health.Roll.View
	var about, words []string
	for _, m := range l.Health.Members {
		if is, live := v.Members[m.ID]; live && is.State == membership.Unready {
			about = append(about, m.ID)
			words = append(words, fmt.Sprintf("%q (%s)", m.ID, m.Reason))
		}
	}
	switch {
	case len(about) == 0:
	case v.UnreadyIgnored():
		l.add(UnreadyIgnored, about, time.Time{}, "mend what the members say that they lack",
			"too few members are ready, so those that are not go on as if they were: %s", joined(words, len(words)))
	default:
		l.add(NotReady, about, time.Time{}, "mend what the members say that they lack",
			"members are not ready, so that the others have what belongs to them: %s", joined(words, len(words)))
	}
}
