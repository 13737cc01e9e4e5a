package main

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// explanationSchema is the number of the form of what explain and describe print as JSON. It rises when a field changes
// its meaning or goes; new fields do not raise it.
const explanationSchema = 1

// explanationJSON is part of the JSON contract.
type explanationJSON struct {
	Schema int `json:"schema"`
	explainedJSON
}

// explainedJSON is an explanation without the number of the form.
type explainedJSON struct {
	Resource   string          `json:"resource"`
	Shard      int             `json:"shard"`
	State      string          `json:"state"`
	Fine       bool            `json:"fine"`
	Expected   string          `json:"expected"`
	Revision   int64           `json:"revision"`
	Past       bool            `json:"past"`
	Entry      *entryJSON      `json:"entry"`
	Claim      *claimJSON      `json:"claim"`
	Quarantine *quarantineJSON `json:"quarantine"`
	Begun      *begunJSON      `json:"begun"`
	Reasons    []reasonJSON    `json:"reasons"`
	Route      routeJSON       `json:"route"`
	Rulings    []rulingJSON    `json:"rulings"`
	Members    []standJSON     `json:"members"`
}

// versionsJSON is part of the JSON contract: when a key was written.
type versionsJSON struct {
	Created  int64 `json:"created"`
	Modified int64 `json:"modified"`
	Writes   int64 `json:"writes"`
}

// entryJSON is part of the JSON contract.
type entryJSON struct {
	FromSource bool `json:"from_source"`
	Allocated  bool `json:"allocated"`
	OwnData    bool `json:"own_data"`
	Suspended  bool `json:"suspended"`
	Understood bool `json:"understood"`
	Bytes      int  `json:"bytes"`
	versionsJSON
}

// leaseJSON is part of the JSON contract.
type leaseJSON struct {
	ID   string `json:"id"`
	TTL  *int   `json:"ttl_s"`
	Left *int   `json:"left_s"`
}

func toLeaseJSON(l drm.Lease) leaseJSON {
	j := leaseJSON{}
	if l.ID != 0 {
		j.ID = fmt.Sprintf("%016x", uint64(l.ID))
	}
	if l.Known {
		ttl, left := int(l.TTL.Seconds()), int(l.Left.Seconds())
		j.TTL, j.Left = &ttl, &left
	}
	return j
}

// claimJSON is part of the JSON contract.
type claimJSON struct {
	Member      string     `json:"member"`
	State       string     `json:"state"`
	Token       int64      `json:"token"`
	Since       *time.Time `json:"since"`
	Error       string     `json:"error"`
	Lease       leaseJSON  `json:"lease"`
	MemberLease leaseJSON  `json:"member_lease"`
	Understood  bool       `json:"understood"`
	versionsJSON
}

// quarantineJSON is part of the JSON contract.
type quarantineJSON struct {
	At     *time.Time  `json:"at"`
	Deaths []deathJSON `json:"deaths"`
	versionsJSON
}

type deathJSON struct {
	Member string     `json:"member"`
	At     *time.Time `json:"at"`
	Exit   string     `json:"exit"`
}

// begunJSON is part of the JSON contract.
type begunJSON struct {
	At       *time.Time `json:"at"`
	Returned bool       `json:"returned"`
	Alone    bool       `json:"alone"`
}

// reasonJSON is part of the JSON contract.
type reasonJSON struct {
	Code    string    `json:"code"`
	Text    string    `json:"text"`
	Hinders bool      `json:"hinders"`
	Wait    *waitJSON `json:"wait"`
	Remedy  string    `json:"remedy"`
}

type waitJSON struct {
	Until string `json:"until"`
	Left  int    `json:"left_s"`
	Of    int    `json:"of_s"`
}

// routeJSON is part of the JSON contract.
type routeJSON struct {
	Owner      string     `json:"owner"`
	Home       string     `json:"home"`
	LastResort bool       `json:"last_resort"`
	Older      bool       `json:"older_rules"`
	Steps      []stepJSON `json:"steps"`
}

type stepJSON struct {
	Kind    string `json:"kind"`
	Slot    *int   `json:"slot"`
	Member  string `json:"member"`
	Verdict string `json:"verdict"`
	Taken   bool   `json:"taken"`
}

func toRouteJSON(r drm.Route) routeJSON {
	j := routeJSON{Owner: r.Owner, Home: r.Home, LastResort: r.LastResort, Older: r.Older, Steps: []stepJSON{}}
	for _, s := range r.Steps {
		step := stepJSON{Kind: string(s.Kind), Member: s.Member, Verdict: string(s.Verdict), Taken: s.Taken}
		if s.Kind == drm.StepSlot || s.Kind == drm.StepNearest {
			step.Slot = &s.Slot
		}
		j.Steps = append(j.Steps, step)
	}
	return j
}

// rulingJSON is part of the JSON contract.
type rulingJSON struct {
	Kind     string     `json:"kind"`
	Member   string     `json:"member"`
	Then     string     `json:"then"`
	Why      string     `json:"why"`
	By       string     `json:"by"`
	Reason   string     `json:"reason"`
	Since    *time.Time `json:"since"`
	InForce  bool       `json:"in_force"`
	Obstacle string     `json:"obstacle"`
	versionsJSON
}

func rulingsJSON(rulings []drm.Ruling) []rulingJSON {
	all := make([]rulingJSON, 0, len(rulings))
	for _, r := range rulings {
		all = append(all, rulingJSON{
			Kind: string(r.Kind), Member: r.Member, Then: r.Then, Why: r.Why, By: r.By, Reason: r.Reason,
			Since: utc(r.Since), InForce: r.InForce, Obstacle: string(r.Obstacle),
			versionsJSON: versionsJSON(r.Versions),
		})
	}
	return all
}

// standJSON is part of the JSON contract.
type standJSON struct {
	Member  string `json:"member"`
	State   string `json:"state"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Schema  int    `json:"group_schema"`
	Shards  int    `json:"shards"`
}

func standsJSON(members []drm.Stand) []standJSON {
	all := make([]standJSON, 0, len(members))
	for _, m := range members {
		all = append(all, standJSON{m.Member, m.State, string(m.Verdict), m.Detail, m.Schema, m.Shards})
	}
	return all
}

func toExplanationJSON(e drm.Explanation) explanationJSON {
	return explanationJSON{explanationSchema, toExplainedJSON(e)}
}

func toExplainedJSON(e drm.Explanation) explainedJSON {
	j := explainedJSON{
		Resource: e.Resource, Shard: e.Shard, State: string(e.State), Fine: e.Fine, Expected: e.Expected,
		Revision: e.Revision, Past: e.Past, Reasons: []reasonJSON{}, Route: toRouteJSON(e.Route),
		Rulings: rulingsJSON(e.Rulings), Members: standsJSON(e.Members),
	}
	if n := e.Entry; n != nil {
		j.Entry = &entryJSON{
			FromSource: n.FromSource, Allocated: n.Allocated, OwnData: n.OwnData, Suspended: n.Suspended,
			Understood: n.Understood, Bytes: len(n.Data), versionsJSON: versionsJSON(n.Versions),
		}
	}
	if c := e.Claim; c != nil {
		j.Claim = &claimJSON{
			Member: c.Member, State: string(c.State), Token: c.Token, Since: utc(c.Since), Error: c.Error,
			Lease: toLeaseJSON(c.Lease), MemberLease: toLeaseJSON(c.MemberLease), Understood: c.Understood,
			versionsJSON: versionsJSON(c.Versions),
		}
	}
	if q := e.Quarantine; q != nil {
		j.Quarantine = &quarantineJSON{At: utc(q.At), Deaths: []deathJSON{}, versionsJSON: versionsJSON(q.Versions)}
		for _, d := range q.Deaths {
			j.Quarantine.Deaths = append(j.Quarantine.Deaths, deathJSON{d.Member, utc(d.At), d.Exit})
		}
	}
	if b := e.Begun; b != nil {
		j.Begun = &begunJSON{utc(b.At), b.Returned, b.Alone}
	}
	for _, r := range e.Reasons {
		reason := reasonJSON{Code: r.Code, Text: r.Text, Hinders: r.Hinders, Remedy: r.Remedy}
		if w := r.Wait; w != nil {
			reason.Wait = &waitJSON{w.Until, int(w.Left.Seconds()), int(w.Of.Seconds())}
		}
		j.Reasons = append(j.Reasons, reason)
	}
	return j
}
