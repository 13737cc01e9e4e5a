package core_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// One resource, from the catalogue to the handler.
func Example() {
	c := core.New(core.Config{
		HandleConcurrency:    1,
		TerminateConcurrency: 1,
		ReleaseBacklog:       1,
		KeysPerLease:         1,
		WriteBacklog:         1,
		SummaryLeast:         4,
		Backoff:              time.Second,
		BackoffMax:           time.Minute,
		RetryMin:             time.Second,
		RetryMax:             time.Minute,
		UncertainFor:         time.Minute,
		Rand:                 rand.New(rand.NewPCG(1, 2)),
	})
	next := func() {
		for _, a := range c.Actions() {
			fmt.Printf("%v %q\n", a.Kind, a.ID)
		}
	}
	c.SetOwned(time.Second, []bool{true}, nil)
	next()
	c.Snapshot(time.Second, 0, 100, []core.Entry{{ID: "a"}}, nil, nil)
	next()
	c.LeaseReady(time.Second, 7)
	next()
	c.ClaimDone(time.Second, 0, "a", core.WriteResult{Applied: true, Revision: 101})
	next()
	c.CallDone(time.Second, 0, "a", core.OK, "")
	next()
	fmt.Println(len(c.Handled()))
	// Output:
	// watch ""
	// need-lease ""
	// claim "a"
	// handle "a"
	// write-state "a"
	// 1
}
