package warnings

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Facts are what was read.
type Facts struct {
	Now     time.Time
	Status  picture.Status
	Health  *picture.Health // nil: the app could not be read
	Cluster etcd.Cluster
	// NoConfig says that the app has keys, but not its config.
	NoConfig bool
	// Resharding and BadConfig are why the app cannot be opened; "" if it can.
	Resharding, BadConfig string
}

// Warning is one thing that is wrong.
type Warning struct {
	Code  Code
	What  string    // one sentence, with names
	Since time.Time // since when at the latest; zero: not known
	Mend  string    // a command, or what to do
	// About are the members, resources or endpoints that it is about; of many, the first. Two warnings of one code are
	// about the same if one of these is in both, or both have none.
	About []string
}

// These are how long something must last, or how large it must be, to be warned of.
const (
	// viewLate is more than twice the time that a member may take to say which view it acts upon.
	viewLate = 150 * time.Second
	// budgetLong is how long resources wait for a budget before anybody wonders.
	budgetLong = 5 * time.Minute
	// unevenLong is how long the coordinator has had to correct the load: it begins a minute after the last change, and
	// moves no shard twice within ten.
	unevenLong = 15 * time.Minute
	// etcdSlow is how long a read of one key may take.
	etcdSlow = 500 * time.Millisecond
	// nearQuota is how much of its quota etcd's database may take, in percent.
	nearQuota = 80
	// missedPolls and pollSlack are how many polls of the source may fail, and how much longer each may take in all.
	missedPolls = 3
	pollSlack   = time.Minute
)

// list collects warnings.
type list struct {
	Facts
	all []Warning
}

// Of returns what an operator should be warned of, by code.
func Of(f Facts) []Warning {
	l := &list{Facts: f, all: []Warning{}}
	l.config()
	if f.Health != nil {
		l.group()
		l.orders()
		l.members()
		l.resources()
		l.source()
	}
	l.etcd()
	slices.SortStableFunc(l.all, func(a, b Warning) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return l.all
}

func (l *list) add(code Code, about []string, since time.Time, mend, format string, args ...any) {
	l.all = append(l.all, Warning{
		Code: code, What: fmt.Sprintf(format, args...), Since: since, Mend: mend, About: about,
	})
}

func (l *list) config() {
	switch {
	case l.Resharding != "":
		l.add(Resharding, nil, time.Time{}, "drmctl reshard NUMBER, with the number that it was begun with",
			"%s", l.Resharding)
	case l.BadConfig != "":
		l.add(BadConfig, nil, time.Time{}, "docs/codes.md says how to put back the key config", "%s", l.BadConfig)
	case l.NoConfig:
		l.add(NoConfig, nil, time.Time{}, "stop all members, and start them with the number of shards that they had",
			"the app has keys, but not its config: members claim nothing new")
	}
}

// resources warns of what is not handled as it should be.
func (l *list) resources() {
	s := l.Status
	if n := s.Unassigned - s.NoRoom - s.Awaited; n > 0 {
		l.add(Unassigned, ids(s.Names.Unassigned), time.Time{}, "drmctl assignments --unassigned",
			"nobody handles %s: %s", count(n, "resource"), named(s.Names.Unassigned, n))
	}
	if s.Failed > 0 {
		l.add(Failed, ids(s.Names.Failed), time.Time{}, "drmctl assignments --failed",
			"%s failed: %s", count(s.Failed, "resource"), named(s.Names.Failed, s.Failed))
	}
	if s.Misplaced > 0 {
		l.add(Misplaced, ids(s.Names.Misplaced), time.Time{}, "drmctl verify",
			"%s with another member than expected: %s", is(s.Misplaced, "resource"),
			named(s.Names.Misplaced, s.Misplaced))
	}
	if s.Quarantined > 0 {
		l.add(Quarantined, ids(s.Names.Quarantined), time.Time{}, "drmctl retry ID or drmctl retry --all-quarantined",
			"quarantined, since members died while they began with them: %d: %s (drmctl assignments says why); "+
				"drmctl retry ID or drmctl retry --all-quarantined frees them",
			s.Quarantined, quoted(ids(s.Names.Quarantined), s.Quarantined))
	}
	if s.NoRoom > 0 {
		l.add(NoRoom, ids(s.Names.NoRoom), time.Time{}, "start more members, or raise --max-resources",
			"no member has room for %s: %s", count(s.NoRoom, "resource"),
			quoted(ids(s.Names.NoRoom), s.NoRoom))
	}
}

// ids returns the ids of resources.
func ids(some []picture.Named) (all []string) {
	for _, n := range some {
		all = append(all, n.ID)
	}
	return all
}

// named names some of n resources, and says why they are as they are.
func named(some []picture.Named, n int) string {
	words := make([]string, len(some))
	for i, one := range some {
		words[i] = fmt.Sprintf("%q", one.ID)
		if one.Why != "" {
			words[i] += " (" + one.Why + ")"
		}
	}
	return joined(words, n)
}

// quoted names some of n things.
func quoted(some []string, n int) string {
	words := make([]string, len(some))
	for i, id := range some {
		words[i] = fmt.Sprintf("%q", id)
	}
	return joined(words, n)
}

// most is how many things a warning names.
const most = 10

// joined joins the first of some words, and counts the others of n.
func joined(words []string, n int) string {
	shown := words[:min(len(words), most)]
	text := strings.Join(shown, ", ")
	switch more := n - len(shown); {
	case more > 0 && text != "":
		text += fmt.Sprintf(" and %d more", more)
	case more > 0:
		text = fmt.Sprint(more)
	}
	return text
}

// count is "1 resource" or "2 resources".
func count(n int, what string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(n, what, ""))
}

// is is "1 resource is" or "2 resources are".
func is(n int, what string) string { return count(n, what) + english.PluralWord(n, " is", " are") }

// during says how long something has lasted.
func (l *list) during(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return fmt.Sprintf(" for %v", max(0, l.Now.Sub(since)).Round(time.Second))
}
