package calls

import "time"

// dueChecks is a heap of the checks that are due later, the next one first. Handling.checkPlace is the index in it,
// plus 1, so that a check can be taken out when its handling ends.
type dueChecks []dueCheck

type dueCheck struct {
	at time.Duration
	of *Handling
}

// put adds a check of a handling, unless there is one already.
func (q *dueChecks) put(h *Handling, at time.Duration) {
	if h.checkPlace != 0 {
		return
	}
	*q = append(*q, dueCheck{at, h})
	q.up(len(*q) - 1)
}

// take takes out the next check. There must be one.
func (q *dueChecks) take() *Handling {
	h := (*q)[0].of
	q.remove(h)
	return h
}

// remove takes out the check of a handling, if there is one.
func (q *dueChecks) remove(h *Handling) {
	i := int(h.checkPlace) - 1
	if i < 0 {
		return
	}
	h.checkPlace = 0
	last := len(*q) - 1
	moved := (*q)[last]
	(*q)[last] = dueCheck{}
	*q = (*q)[:last]
	if i < last {
		(*q)[i] = moved
		q.down(q.up(i))
	}
	if last == 0 {
		*q = nil // a member without resources needs no memory for them
	}
}

// up moves an entry up to its place, and returns where that is.
func (q *dueChecks) up(i int) int {
	all := *q
	for i > 0 {
		parent := (i - 1) / 2
		if all[parent].at <= all[i].at {
			break
		}
		all[parent], all[i] = all[i], all[parent]
		all[i].of.checkPlace = int32(i) + 1
		i = parent
	}
	all[i].of.checkPlace = int32(i) + 1
	return i
}

// down moves an entry down to its place.
func (q *dueChecks) down(i int) {
	all := *q
	for {
		child := 2*i + 1
		if child+1 < len(all) && all[child+1].at < all[child].at {
			child++
		}
		if child >= len(all) || all[i].at <= all[child].at {
			break
		}
		all[child], all[i] = all[i], all[child]
		all[i].of.checkPlace = int32(i) + 1
		i = child
	}
	all[i].of.checkPlace = int32(i) + 1
}
