package events

import "slices"

// Filter narrows what a Feed tells; its zero value takes all. An event must match all of its fields that are set.
type Filter struct {
	Resources []string // only what concerns one of these resources, or the placement of one of their shards
	Member    string   // only what concerns this member
	Kinds     []Kind   // only these kinds, besides Gap, Listed and ListEnd
}

// families says where the keys are that matter.
func (f Filter) families() family {
	if len(f.Kinds) == 0 {
		if len(f.Resources) > 0 {
			return inGroup | inShards | inAlone | inApp
		}
		return anywhere
	}
	var all family
	if len(f.Resources) > 0 { // where they are depends on the number of shards
		all = inApp
	}
	for _, k := range kinds {
		if slices.Contains(f.Kinds, k.kind) {
			all |= k.of
		}
	}
	return all
}

// picker decides which events are told.
type picker struct {
	kinds     map[Kind]bool   // nil: all
	resources map[string]bool // nil: all
	shards    map[int]bool    // those of the resources
	member    string          // empty: all
}

func newPicker(f Filter, shardOf func(id string) int) *picker {
	p := &picker{member: f.Member}
	if len(f.Kinds) > 0 {
		p.kinds = map[Kind]bool{Gap: true, Listed: true, ListEnd: true}
		for _, k := range f.Kinds {
			p.kinds[k] = true
		}
	}
	if len(f.Resources) > 0 {
		p.resources, p.shards = map[string]bool{}, map[int]bool{}
		for _, id := range f.Resources {
			p.resources[id], p.shards[shardOf(id)] = true, true
		}
	}
	return p
}

// wants says whether a resource may matter.
func (p *picker) wants(id string) bool { return p.resources == nil || p.resources[id] }

// takes says whether an event is told.
func (p *picker) takes(e *Event) bool {
	if e.Kind == Gap || e.Kind == ListEnd {
		return true
	}
	if p.kinds != nil && !p.kinds[e.Kind] {
		return false
	}
	if p.member != "" && e.Member != p.member && e.From != p.member {
		return false
	}
	switch {
	case p.resources == nil:
		return true
	case e.Resource != "":
		return p.resources[e.Resource]
	case len(e.Resources) > 0: // the decoder has left out the others
		return true
	default: // it is about a whole shard, as an exception or a pin is
		return e.Shard >= 0 && p.shards[e.Shard]
	}
}
