package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// bug is something that is wrong in some versions of etcd, and matters to DRM.
type bug struct {
	what   string
	number int // of the pull request that mended it in etcd 3.5
	result Result
	since  release        // the first release that has it; zero: all that fixed has no entry for are free of it
	fixed  map[string]int // by minor version such as "3.5": the patch release that is free of it
}

// bugs are from the changelogs of etcd (github.com/etcd-io/etcd/tree/main/CHANGELOG). A minor version that has no entry
// was never released with the bug.
var bugs = []bug{
	{
		"members may end up with different data and revisions after a crash; not to be used in production",
		13908, Fail,
		release{3, 5, 0},
		map[string]int{"3.5": 3},
	},
	{
		"an answer about the progress of a watch may overtake events, so that changes are taken as seen that were not",
		15695, Fail,
		release{},
		map[string]int{"3.4": 25, "3.5": 8},
	},
	{
		"a watch may go back in time when a member that was away gets a snapshot from the leader",
		15515, Fail,
		release{},
		map[string]int{"3.4": 25, "3.5": 8},
	},
	{
		"a single member may lose writes that it has acknowledged",
		14424, Warn,
		release{},
		map[string]int{"3.4": 21, "3.5": 5},
	},
	{
		"revisions of members may differ after a crash in a defragmentation",
		14733, Warn,
		release{3, 5, 0},
		map[string]int{"3.5": 6},
	},
	{
		"data of members may differ after a recovery from a snapshot with authentication on",
		14648, Warn,
		release{},
		map[string]int{"3.4": 22, "3.5": 6},
	},
	{
		"a leader that was replaced may revoke leases that are renewed, so that members lose what they handle",
		17425, Warn,
		release{},
		map[string]int{"3.4": 31, "3.5": 13},
	},
	{
		"a watch may lose events after a compaction",
		17612, Warn,
		release{},
		map[string]int{"3.4": 31, "3.5": 13},
	},
	{
		"a watch from the revision of a compaction on may lack a deletion",
		19249, Warn,
		release{},
		map[string]int{"3.4": 36, "3.5": 18},
	},
	{
		"a renewal of a lease that was revoked may be answered as if it had succeeded",
		20616, Warn,
		release{},
		map[string]int{"3.4": 38, "3.5": 23, "3.6": 5},
	},
	{
		"data may be corrupted by a defragmentation while a snapshot is applied",
		20653, Warn,
		release{},
		map[string]int{"3.4": 38, "3.5": 23, "3.6": 5},
	},
	{
		"a member whose process was paused, or whose leader changes, may answer reads with old data",
		21421, Warn,
		release{},
		map[string]int{"3.4": 42, "3.5": 28, "3.6": 9},
	},
}

// release is a version of etcd.
type release [3]int

func (v release) minor() string { return fmt.Sprintf("%d.%d", v[0], v[1]) }

func (v release) before(w release) bool { return slices.Compare(v[:], w[:]) < 0 }

// parseRelease reads a version such as 3.5.9, also one with a suffix.
func parseRelease(text string) (v release, ok bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "-")
	text, _, _ = strings.Cut(text, "+")
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return v, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// oldest is the oldest version with which all of DRM works.
var oldest = release{3, 5, 0}

// judge says what is known about a version of etcd. The worst bug comes first.
func judge(text string) finding {
	v, ok := parseRelease(text)
	if !ok {
		return warning("run a released version of etcd", "%q is no version that is known", text)
	}
	if v.before(release{3, 4, 0}) {
		return failure("upgrade etcd to 3.5 or later",
			"etcd %s: DRM needs etcd 3.5, or 3.4 within the limits of docs/config.md", text)
	}
	var found []bug
	upgrade := 0
	for _, b := range bugs {
		if patch, has := b.fixed[v.minor()]; has && v[2] < patch && !v.before(b.since) {
			found = append(found, b)
			upgrade = max(upgrade, patch)
		}
	}
	slices.SortStableFunc(found, func(a, b bug) int { return cmp.Compare(rank(b.result), rank(a.result)) })
	switch {
	case len(found) > 0:
		var texts []string
		for _, b := range found {
			texts = append(texts, fmt.Sprintf("%s (etcd-io/etcd#%d)", b.what, b.number))
		}
		f := finding{
			found[0].result, fmt.Sprintf("etcd %s: %s", text, strings.Join(texts, "; ")),
			fmt.Sprintf("upgrade etcd to %s.%d or later", v.minor(), upgrade),
		}
		return f
	case v.before(oldest):
		return warning("upgrade etcd to 3.5 or later",
			"etcd %s is no longer maintained, and works with a password only within the limits of docs/config.md", text)
	default:
		return fine("etcd %s, of which no bug is known that concerns DRM", text)
	}
}

// rank orders results from good to bad.
func rank(r Result) int { return slices.Index([]Result{OK, Skip, Warn, Fail}, r) }

// Worse says whether a result is at least as bad as another one.
func (r Result) Worse(than Result) bool { return rank(r) >= rank(than) }

// checkVersions judges the versions of the members that answer.
func checkVersions(ctx context.Context, r *run) {
	r.askStatus(ctx)
	var found []string
	for _, t := range r.targets {
		if t.client == nil {
			continue
		}
		f := r.check(ctx, version, t.endpoint, func(context.Context) finding {
			if t.status == nil {
				return skipped("%s", t.unknown())
			}
			return judge(t.status.Version)
		})
		if f.result != Skip && !slices.Contains(found, t.status.Version) {
			found = append(found, t.status.Version)
		}
	}
	r.check(ctx, versions, "", func(context.Context) finding {
		switch len(found) {
		case 0:
			return skipped("no member has told its version")
		case 1:
			return fine("all members that answer run etcd %s", found[0])
		}
		slices.Sort(found)
		return warning("finish the upgrade of etcd: members of different versions are for the time of an upgrade only",
			"members run different versions: %s", strings.Join(found, ", "))
	})
}
