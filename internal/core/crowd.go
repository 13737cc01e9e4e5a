package core

import "time"

// crowd is what the core knows of resources that are accused of several deaths together with so many others that the
// deaths point to none of them: most likely the members have died of something else, such as of too much at once. To
// handle each of them alone would take hours. So they begin in groups, as after one death; but none is quarantined that
// was not alone in one of the deaths.
//
// A resource that kills some time after its Handle has returned may hide in a crowd. Each death accuses only what had
// begun by then, so those that are accused of all deaths become fewer. When they are no crowd any more, they are
// handled alone.
type crowd struct {
	of      map[*resource]int // the resources that are in the crowd, with the number of deaths that they are accused of
	accused []int             // how many resources are accused of at least as many deaths as the index says
	at      time.Duration     // when accused was counted
	counted bool
	again   time.Duration // when those that are to be handled alone are judged again; 0: there are none
}

// recountAfter is how old the count of accused resources may be, and how soon what is to be handled alone is judged
// again: the deaths of a crowd are not all seen at one moment.
const recountAfter = time.Second

// isAlone says whether a resource that is accused of n deaths is handled alone.
func (c *Core) isAlone(r *resource, n int) bool { return n >= aloneFrom && c.crowd.of[r] != n }

// judgeCrowd decides whether a resource that waits to begin is in the crowd. What ran when the latest member died is
// not, since it is to blame more likely. What is in the crowd stays there until a further death accuses it.
func (c *Core) judgeCrowd(r *resource) {
	n := c.suspicion(r)
	if n >= aloneFrom && c.crowd.of[r] == n {
		return
	}
	delete(c.crowd.of, r)
	switch {
	case n < aloneFrom:
	case c.suspect(r).returned == 1 && c.accusedOf(n) > c.cfg.Crowd:
		c.crowd.of[r] = n
	case c.crowd.again == 0:
		c.crowd.again = c.now + recountAfter
		c.wake(c.crowd.again)
	}
}

// judgeAgain looks whether what is to be handled alone is in the crowd after all.
func (c *Core) judgeAgain() {
	if c.crowd.again == 0 || c.now < c.crowd.again {
		return
	}
	c.crowd.again = 0
	for range c.isolate.waiting() {
		r := c.isolate.pop()
		if r == nil {
			return
		}
		if !c.stillWaits(r, isolateQueue) {
			continue
		}
		if c.judgeCrowd(r); c.stillWaits(r, isolateQueue) {
			c.isolate.push(r)
		}
	}
}

// accusedOf returns how many resources are accused of n deaths or more, as far as this member knows.
func (c *Core) accusedOf(n int) int {
	w := &c.crowd
	if !w.counted || c.now-w.at >= recountAfter {
		w.counted, w.at, w.accused = true, c.now, w.accused[:0]
		for _, sh := range c.shards {
			if sh != nil && len(sh.accusers) > 0 {
				c.countAccused(sh)
			}
		}
	}
	if n >= len(w.accused) {
		return 0
	}
	return w.accused[n]
}

// countAccused adds the resources of a shard to those that are accused.
func (c *Core) countAccused(sh *shard) {
	type life struct{ member, life string }
	lives := map[string]map[life]struct{}{}
	for _, a := range sh.accusers {
		if c.isOld(a) {
			continue
		}
		for _, id := range a.ids {
			if !a.accuses(id) {
				continue
			}
			if lives[id] == nil {
				lives[id] = map[life]struct{}{}
			}
			lives[id][life{a.member, a.life}] = struct{}{}
		}
	}
	for _, of := range lives {
		for len(c.crowd.accused) <= len(of) {
			c.crowd.accused = append(c.crowd.accused, 0)
		}
		for n := range len(of) + 1 {
			c.crowd.accused[n]++
		}
	}
}
