package groupsim

import (
	"fmt"
	"strings"
)

// What is something that happens in a run, whether or not the Plan asks for it by name.
type What int

// Things that happen.
const (
	Terms      What = iota // a member became the coordinator
	Lost                   // a write was not carried out
	Unanswered             // a write was carried out, and the answer was lost
	Delayed                // a write was carried out late
	CutBefore              // the coordinator died before it wrote a part of a plan
	CutAfter               // it died after it wrote a part of a plan
	CutBetween             // something else changed between two parts of a plan
	Flaps                  // a member stayed away because of short lives
	Corrected              // a shard moved for balance
	Drained                // a shard of a drained member was placed
	Prepared               // a shard was placed for a member that joined or left
	Kept                   // an exception kept a shard where it was
	Tidied                 // an exception was dropped
	Rejoined               // a member was back in time, and nothing had moved
	Rollouts               // the coordinator wrote during a rollout
	Mixed                  // a view had members of two schemas
	Ignored                // a view ignored the drains
	Freed                  // a slot of a member that had been gone for long was freed
	whats
)

var whatNames = [whats]string{
	"terms", "lost", "unanswered", "delayed", "cut before", "cut after", "cut between", "flaps", "corrected", "drained",
	"prepared", "kept", "tidied", "rejoined", "rollouts", "mixed", "drains ignored", "freed",
}

// Counts says how often things happened.
type Counts struct {
	Kinds [Kinds]int
	Whats [whats]int
}

func (w *world) count(what What) { w.counts.Whats[what]++ }

// Add adds the counts of another run.
func (c *Counts) Add(d *Counts) {
	for i, n := range d.Kinds {
		c.Kinds[i] += n
	}
	for i, n := range d.Whats {
		c.Whats[i] += n
	}
}

// Missing returns what has never happened.
func (c *Counts) Missing() (missing []string) {
	for i, n := range c.Kinds {
		if n == 0 {
			missing = append(missing, kindNames[i])
		}
	}
	for i, n := range c.Whats {
		if n == 0 {
			missing = append(missing, whatNames[i])
		}
	}
	return missing
}

func (c *Counts) String() string {
	var parts []string
	for i, n := range c.Kinds {
		parts = append(parts, fmt.Sprintf("%v %d", kindNames[i], n))
	}
	for i, n := range c.Whats {
		parts = append(parts, fmt.Sprintf("%v %d", whatNames[i], n))
	}
	return strings.Join(parts, ", ")
}
