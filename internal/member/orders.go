package member

import (
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// standingOrders logs the operator's orders about this member. Such an order outlives the member, and whoever wonders
// why the member takes nothing looks at its log.
type standingOrders struct {
	drain, cordon string // what was logged last, as picture.DrainOf and picture.CordonOf return it
	weight        int    // the weight that was logged last as ordered, plus 1; 0: none is
	pinned        int    // how many shards are pinned to this member, as was logged last
}

// heed logs when an order is given or taken back, and when it begins or ceases to be ignored.
func (o *standingOrders) heed(log *zap.Logger, id string, v *membership.View) {
	if is := picture.DrainOf(v, id); is != o.drain {
		o.drain = is
		fields := origin(v.Drains[id].Order, v.Drains[id].Until)
		switch is {
		case picture.DrainOrdered:
			log.Warn("drained by order: this member takes nothing until it is undrained "+
				"(drmctl undrain "+id+")", fields...)
		case picture.DrainIgnored:
			log.Warn("the order to drain this member is ignored, because every member has one", fields...)
		default:
			log.Info("the order to be drained was taken back, or has expired")
		}
	}
	if is := picture.CordonOf(v, id); is != o.cordon {
		o.cordon = is
		fields := origin(v.Cordons[id].Order, v.Cordons[id].Until)
		switch is {
		case picture.DrainOrdered:
			log.Warn("cordoned by order: this member keeps what it had then, and takes nothing new "+
				"until it is uncordoned (drmctl uncordon "+id+")", fields...)
		case picture.DrainIgnored:
			log.Warn("the order to cordon this member is ignored, because every member has one", fields...)
		default:
			log.Info("the order to be cordoned was taken back, or has expired")
		}
	}
	o.heedWeight(log, id, v)
	pinned := 0
	for _, p := range v.Pins {
		if p.Member == id {
			pinned++
		}
	}
	if pinned != o.pinned {
		o.pinned = pinned
		log.Info("shards are pinned to this member by order (drmctl pins)", zap.Int("shards", pinned))
	}
}

// heedWeight logs when an operator orders a weight, or takes such an order back.
func (o *standingOrders) heedWeight(log *zap.Logger, id string, v *membership.View) {
	w, ordered := v.Weights[id]
	is := 0
	if ordered {
		is = w.Weight + 1
	}
	if is == o.weight {
		return
	}
	o.weight = is
	own := zap.Int("own", v.Members[id].Weight)
	fields := append(origin(w.Order, time.Time{}), own, zap.Int("weight", w.Weight))
	switch {
	case !ordered:
		log.Info("the order to have another weight was taken back", own)
	case w.Weight == 0:
		log.Warn("the weight is 0 by order: this member takes nothing until it is given another weight "+
			"(drmctl weight "+id+" --reset)", fields...)
	default:
		log.Warn("another weight is ordered than this member says itself (drmctl weight "+id+" --reset)", fields...)
	}
}

// origin returns the fields that say where an order comes from, as far as that is known.
func origin(o membership.Order, until time.Time) []zap.Field {
	var fields []zap.Field
	if o.By != "" {
		fields = append(fields, zap.String("by", o.By))
	}
	if o.Why != "" {
		fields = append(fields, zap.String("why", o.Why))
	}
	if !o.Since.IsZero() {
		fields = append(fields, zap.String("since", o.Since.Format(time.RFC3339)))
	}
	if !until.IsZero() {
		fields = append(fields, zap.String("until", until.Format(time.RFC3339)))
	}
	return fields
}
