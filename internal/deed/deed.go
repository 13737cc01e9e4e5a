// Package deed says who has made a change, and why, where nothing that the change leaves in etcd says so: an order that
// is taken back is gone, and an entry of the catalogue says nothing of whoever made it.
//
// A change writes the app's record of the last deed (keys.Layout.Deed) in its own transaction. So the record has the
// revision of the change, and etcd's history has a record for each change. Nothing compares or follows the record, so
// that it is in nobody's way.
package deed

import (
	"encoding/json"
	"time"
)

// Origin is who makes changes, and why; for people. Of the zero value nothing is recorded.
type Origin struct{ By, Why string }

// IsZero says that nothing is known.
func (o Origin) IsZero() bool { return o == Origin{} }

// At returns the deed of the origin at a time; that of the zero value is zero too, time and all.
func (o Origin) At(now time.Time) Deed {
	if o.IsZero() {
		return Deed{}
	}
	return Deed{By: o.By, Why: o.Why, Since: now.UTC().Truncate(time.Millisecond)}
}

// Deed says who has made a change, why, and when by their clock. Its fields are those of an order that stands.
type Deed struct {
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// Origin returns whose deed it is.
func (d Deed) Origin() Origin { return Origin{d.By, d.Why} }

// Encode returns the value of the record.
func (d Deed) Encode() string {
	b, err := json.Marshal(d)
	if err != nil { // of a time beyond the year 9999, which the deed can do without
		b, _ = json.Marshal(Deed{By: d.By, Why: d.Why})
	}
	return string(b)
}

// Decode reads the value of the record, or what the value of another key says of the deed that has led to it.
func Decode(value []byte) (Deed, error) {
	var d Deed
	if err := json.Unmarshal(value, &d); err != nil {
		return Deed{}, err
	}
	return d, nil
}
