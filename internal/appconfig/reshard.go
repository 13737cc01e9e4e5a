package appconfig

import (
	"errors"
	"fmt"
)

// While the number of shards is being changed, no member may start. So the key has a barrier in place of a config: a
// value with a schema that programs which know no barriers refuse. For the moments in which there is no key, those that
// know barriers look for the key that says how far the change is, which is there all the time (keys.Layout.Reshard).

// barrier is the schema of a barrier. No config may ever have it.
const barrier = 2

// ErrResharding says that the app's number of shards is being changed. A *ReshardError matches it.
var ErrResharding = errors.New("the app's number of shards is being changed")

// ReshardError says that the app's number of shards is being changed, or that a change was interrupted.
type ReshardError struct{ From, To int }

func (e *ReshardError) Error() string {
	if e.To == 0 {
		return "the app's number of shards is being changed, and etcd has no record of that which can be read: " +
			"put back what was there"
	}
	return fmt.Sprintf("the app's number of shards is being changed from %d to %d: "+
		"run `drmctl reshard %d` again to finish that", e.From, e.To, e.To)
}

// Is makes errors.Is find ErrResharding.
func (e *ReshardError) Is(target error) bool { return target == ErrResharding }

// resharding is the part of a barrier, and of the key beside it, that says which change is in progress.
type resharding struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Barrier returns the value that the key has while the number of shards is being changed.
func Barrier(from, to int) string {
	return encode(value{Schema: barrier, Reshard: &resharding{from, to}})
}
