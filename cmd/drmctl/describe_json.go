package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// memberDetailJSON is part of the JSON contract.
type memberDetailJSON struct {
	Schema int `json:"schema"`
	memberJSON
	Revision  int64             `json:"revision"`
	Live      bool              `json:"live"`
	Lease     leaseJSON         `json:"lease"`
	Labels    map[string]string `json:"labels"`
	Group     int               `json:"group_schema"`
	HasSource bool              `json:"has_source"`
	Leads     bool              `json:"leads"`
	Leaves    bool              `json:"leaves"`

	Owned     []rangeJSON `json:"owned"`
	Kept      int         `json:"kept"`
	Declined  []rangeJSON `json:"declined"`
	PinnedTo  []int       `json:"pinned_shards"`
	PlacedAt  int         `json:"placed_shards"`
	MovedTo   []string    `json:"moved_to"`
	MovedFrom []string    `json:"moved_from"`

	Figures     *figuresJSON     `json:"figures"`
	Load        *loadJSON        `json:"load"`
	Reservation *reservationJSON `json:"reservation"`
	Starts      int              `json:"starts"`
	StartsSince *time.Time       `json:"starts_since"`
	Exits       []exitJSON       `json:"exits"`
	Alone       string           `json:"alone"`
	Trails      []trailJSON      `json:"trails"`
	Accused     []accusedJSON    `json:"accused"`
	Past        []pastJSON       `json:"past"`
	versionsJSON
}

type figuresJSON struct {
	Shards           int `json:"shards"`
	Claims           int `json:"claims"`
	Active           int `json:"active"`
	Failed           int `json:"failed"`
	Calls            int `json:"calls"`
	Stuck            int `json:"stuck"`
	Waiting          int `json:"waiting"`
	WaitingForBudget int `json:"waiting_for_budget"`
}

type loadJSON struct {
	Total   float64 `json:"total"`
	Pending float64 `json:"pending"`
	Seen    int64   `json:"seen_revision"`
}

type reservationJSON struct {
	Since   *time.Time  `json:"since"`
	Until   *time.Time  `json:"until"`
	Keeps   []rangeJSON `json:"keeps"`
	Lease   leaseJSON   `json:"lease"`
	InForce bool        `json:"in_force"`
	versionsJSON
}

type exitJSON struct {
	At   *time.Time `json:"at"`
	Exit string     `json:"exit"`
}

type accusedJSON struct {
	Resource string     `json:"resource"`
	At       *time.Time `json:"at"`
	Exit     string     `json:"exit"`
}

type trailJSON struct {
	Shard    int        `json:"shard"`
	Lease    string     `json:"lease"`
	Member   string     `json:"member"`
	At       *time.Time `json:"at"`
	IDs      []string   `json:"ids"`
	Returned int        `json:"returned"`
	Alone    bool       `json:"alone"`
	versionsJSON
}

func trailsJSON(trails []drm.Trail) []trailJSON {
	all := make([]trailJSON, 0, len(trails))
	for _, t := range trails {
		all = append(all, trailJSON{
			t.Shard, fmt.Sprintf("%016x", uint64(t.Lease)), t.Member, utc(t.At), some(t.IDs), t.Returned, t.Alone,
			versionsJSON(t.Versions),
		})
	}
	return all
}

type pastJSON struct {
	Revision int64  `json:"revision"`
	Text     string `json:"text"`
	By       string `json:"by"`
	Why      string `json:"why"`
}

func pastsJSON(past []drm.Past) []pastJSON {
	all := make([]pastJSON, 0, len(past))
	for _, p := range past {
		all = append(all, pastJSON(p))
	}
	return all
}

// some returns a list that is not null as JSON.
func some[T any](list []T) []T { return append([]T{}, list...) }

func toMemberDetailJSON(d drm.MemberDetail) memberDetailJSON {
	j := memberDetailJSON{
		Schema: explanationSchema, memberJSON: toMemberJSON(d.MemberInfo, d.Orders),
		Revision: d.Revision, Live: d.Live, Lease: toLeaseJSON(d.Lease), Labels: map[string]string{},
		Group: d.Schema, HasSource: d.HasSource, Leads: d.Leads, Leaves: d.Leaves,
		Owned: rangesJSON(d.Owned), Kept: d.Kept, Declined: rangesJSON(d.Declined),
		PinnedTo: some(d.PinnedTo), PlacedAt: d.PlacedAt, MovedTo: some(d.MovedTo), MovedFrom: some(d.MovedFrom),
		Starts: d.Starts, StartsSince: utc(d.StartsSince), Exits: []exitJSON{}, Alone: d.Alone,
		Trails: trailsJSON(d.Trails), Accused: []accusedJSON{}, Past: pastsJSON(d.Past),
		versionsJSON: versionsJSON(d.Versions),
	}
	for name, label := range d.Labels {
		j.Labels[name] = label
	}
	if d.Figures != nil {
		figures := figuresJSON(*d.Figures)
		j.Figures = &figures
	}
	if l := d.Load; l != nil {
		j.Load = &loadJSON{float64(l.Total) / 1000, float64(l.Pending) / 1000, l.Seen}
	}
	if r := d.Reservation; r != nil {
		j.Reservation = &reservationJSON{
			utc(r.Since), utc(r.Until), rangesJSON(r.Keeps), toLeaseJSON(r.Lease), r.InForce,
			versionsJSON(r.Versions),
		}
	}
	for _, e := range d.Exits {
		j.Exits = append(j.Exits, exitJSON{utc(e.At), e.Exit})
	}
	for _, a := range d.Accused {
		j.Accused = append(j.Accused, accusedJSON{a.Resource, utc(a.At), a.Exit})
	}
	return j
}

// resourceDetailJSON is part of the JSON contract.
type resourceDetailJSON struct {
	Schema int `json:"schema"`
	explainedJSON
	Data    json.RawMessage `json:"data"` // null without --with-data
	Entries []pastJSON      `json:"past_entries"`
	Claims  []pastJSON      `json:"past_claims"`
}

func toResourceDetailJSON(d drm.ResourceDetail, withData bool) resourceDetailJSON {
	j := resourceDetailJSON{
		Schema: explanationSchema, explainedJSON: toExplainedJSON(d.Explanation), Entries: pastsJSON(d.Entries),
		Claims: pastsJSON(d.Claims),
	}
	if withData && d.Entry != nil {
		j.Data = d.Entry.Data
	}
	return j
}

// shardDetailJSON is part of the JSON contract.
type shardDetailJSON struct {
	Schema      int            `json:"schema"`
	Shard       int            `json:"shard"`
	Revision    int64          `json:"revision"`
	Wanted      int            `json:"resources"`
	Suspended   int            `json:"suspended"`
	Bytes       int64          `json:"bytes"`
	States      map[string]int `json:"states"`
	Misplaced   int            `json:"misplaced"`
	Orphans     int            `json:"orphans"`
	BadKeys     int            `json:"corrupt"`
	Quarantined []string       `json:"quarantined_ids"`
	Moved       []movedJSON    `json:"moved_resources"`
	Route       routeJSON      `json:"route"`
	Rulings     []rulingJSON   `json:"rulings"`
	Members     []standJSON    `json:"members"`
	Claims      []bundleJSON   `json:"claims"`
	Trails      []trailJSON    `json:"trails"`
	Changes     []changeJSON   `json:"changes"`
}

type movedJSON struct {
	Resource string `json:"resource"`
	Member   string `json:"member"`
	From     string `json:"from"`
	InForce  bool   `json:"in_force"`
}

type bundleJSON struct {
	Member  string         `json:"member"`
	Lease   string         `json:"lease"`
	States  map[string]int `json:"states"`
	Through int64          `json:"through"`
	Within  int64          `json:"within_ms"`
}

type changeJSON struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	versionsJSON
	By  string `json:"by"`
	Why string `json:"why"`
}

func statesJSON(states map[drm.State]int) map[string]int {
	j := make(map[string]int, len(states))
	for state, n := range states {
		j[string(state)] = n
	}
	return j
}

func toShardDetailJSON(d drm.ShardDetail) shardDetailJSON {
	j := shardDetailJSON{
		Schema: explanationSchema, Shard: d.Route.Shard, Revision: d.Revision, Wanted: d.Wanted, Suspended: d.Suspended,
		Bytes: d.Bytes, States: statesJSON(d.States), Misplaced: d.Misplaced, Orphans: d.Orphans, BadKeys: d.BadKeys,
		Quarantined: some(d.Quarantined), Moved: []movedJSON{}, Route: toRouteJSON(d.Route),
		Rulings: rulingsJSON(d.Rulings), Members: standsJSON(d.Members), Claims: []bundleJSON{},
		Trails: trailsJSON(d.Trails), Changes: []changeJSON{},
	}
	for _, m := range d.Moved {
		j.Moved = append(j.Moved, movedJSON(m))
	}
	for _, b := range d.Claims {
		j.Claims = append(j.Claims, bundleJSON{
			b.Member, fmt.Sprintf("%016x", uint64(b.Lease)), statesJSON(b.States), b.Through, b.Within.Milliseconds(),
		})
	}
	for _, k := range d.Changes {
		j.Changes = append(j.Changes, changeJSON{k.Kind, k.ID, versionsJSON(k.Versions), k.By, k.Why})
	}
	return j
}
