package core

// shard is what is known of one shard. Its resources are in a list besides the map, so that going through them has a
// fixed order: the same events always give the same actions.
type shard struct {
	number  int
	owned   bool
	guests  bool            // moved has resources that belong to this member
	moved   map[string]bool // resources that do not belong to the shard's owner: whether they belong to this member
	gen     uint32          // counts snapshots
	byID    map[string]*resource
	list    []*resource
	bundles []*bundle // this member's claims in the shard, by lease
	busy    int       // how many resources are busy
	unseen  int       // how many resources may have a claim of this member that is not seen yet
	claims  int       // how many claims etcd was seen to have
	floor   int64     // the newest seen.rev of dropped resources: older news must not bring them back

	accusers    []*accuser             // other members' trails
	quarantines map[string]*quarantine // by resource; nil if there never was one
	retries     map[string]*retry      // by resource; nil if there never was one
	shaken      bool                   // the number of claims on the lease of an accuser has changed
	unjudged    bool                   // it is in Core.unjudged
}

// owns says whether a resource of the shard belongs to this member.
func (sh *shard) owns(id string) bool {
	if mine, moved := sh.moved[id]; moved {
		return mine
	}
	return sh.owned
}

// isWanted says whether the shard has anything that belongs to this member.
func (sh *shard) isWanted() bool { return sh.owned || sh.guests }

// get returns the resource with an id, and makes it if it is not known.
func (sh *shard) get(id string) *resource {
	r := sh.byID[id]
	if r == nil {
		r = &resource{id: id, sh: sh, index: int32(len(sh.list)), seen: seen{rev: sh.floor}}
		sh.byID[id] = r
		sh.list = append(sh.list, r)
	}
	return r
}

// drop removes a resource of which nothing is known. Queues and timers may still refer to it, and find its shard nil.
func (sh *shard) drop(r *resource) {
	sh.floor = max(sh.floor, r.seen.rev)
	delete(sh.byID, r.id)
	last := sh.list[len(sh.list)-1]
	sh.list[r.index], last.index = last, r.index
	sh.list[len(sh.list)-1] = nil
	sh.list = sh.list[:len(sh.list)-1]
	r.sh = nil
}

// each calls f for every resource. f may drop the resource that it is called for.
func (sh *shard) each(f func(*resource)) {
	for i := len(sh.list) - 1; i >= 0; i-- {
		if i < len(sh.list) {
			f(sh.list[i])
		}
	}
}
