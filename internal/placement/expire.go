package placement

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// late is how long after its time the coordinator ends an order that should have ended by itself. It is more than the
// clocks of whoever gave the order and of the coordinator should differ.
const late = 5 * time.Minute

// expire ends the drains and cordons that should have ended by themselves. Their leases see to that, but a new leader
// of etcd lets each lease begin anew.
func (d *draft) expire() {
	d.plan.Undrain = d.overdue(d.view.Drains)
	d.plan.Uncordon = d.overdue(d.view.Cordons)
}

// overdue returns the members whose orders should have ended, in order, and sees to it that the others are looked at in
// time.
func (d *draft) overdue(orders map[string]membership.Restriction) (ids []string) {
	for id, order := range orders {
		if order.Until.IsZero() {
			continue
		}
		left := order.Until.Add(late).Sub(d.wall)
		if left <= 0 {
			ids = append(ids, id)
			continue
		}
		if next := d.now + left; d.plan.Next == 0 || next < d.plan.Next {
			d.plan.Next = next
		}
	}
	slices.Sort(ids)
	return ids
}
