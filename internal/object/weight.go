package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

const (
	// OneWeight is the weight 1 in thousandths, the unit of Weight.
	OneWeight = 1000
	// MaxWeight is the greatest weight, in thousandths.
	MaxWeight = 1_000_000 * OneWeight
)

// errNoWeight says that a field has no weight.
var errNoWeight = errors.New("want a number above 0")

// Weight reads a resource's weight from a field of its object, and returns it in thousandths, from 1 to MaxWeight. It
// is OneWeight if the object has no such field, or null in it, and also beside an error, which says that the field has
// no weight. The error does not tell the value, which may be secret.
func Weight(object json.RawMessage, field string) (int64, error) {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // what is not an object has no fields
	raw, has := fields[field]
	if !has || string(raw) == "null" {
		return OneWeight, nil
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || !(n > 0) {
		return OneWeight, fmt.Errorf("%q: got %s, %w", field, kindOf(raw), errNoWeight)
	}
	return int64(min(max(math.Round(n*OneWeight), 1), MaxWeight)), nil
}
