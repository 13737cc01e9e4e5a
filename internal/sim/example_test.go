package sim_test

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/sim"
)

func Example() {
	plan := sim.Draw(sim.Random(1), 0)
	plan.Members, plan.Resources = 3, 6
	plan.Faults = []sim.Fault{{Kind: sim.Crash, At: time.Second, Who: 0, For: 9 * time.Second}}
	fmt.Println(sim.Run(plan, sim.Options{}).Err)
	// Output: <nil>
}
