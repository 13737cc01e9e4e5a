// Package lives tells apart the lives of a service that names each of them, and notices where the names cannot be those
// of lives: where several instances answer in turns, each of which goes on with what it was given. It is pure: the
// caller has the clock, and says who answers.
package lives

import (
	"crypto/sha256"
	"slices"
	"time"
)

const (
	// formerNames is how many earlier names are remembered, in order to see that one of them comes back. No life of a
	// service does. They are kept as short hashes: all of them take 8 KiB. Of more instances that share a URL than
	// that, the changes below tell.
	formerNames = 1024
	// manyChanges within changesIn are too many for one service that restarts: each of its lives would last for less
	// than 2 s, its start included, for half a minute on end. Whatever starts processes pauses before that. Instances
	// that never repeat a name, such as one that makes a new one for each answer, change it with each question, of
	// which there is one a second.
	manyChanges = 16
	changesIn   = 30 * time.Second
	// takingTurns is for how long after the last sign of it instances count as taking turns.
	takingTurns = 10 * time.Minute
)

// Lives are the lives of one service, as far as its answers tell. The zero value is the one of a service that has named
// none. It is not safe for concurrent use.
type Lives struct {
	number  int32     // of the current life
	since   time.Time // when the current life was first heard of
	name    string    // what the last life that has named itself calls itself
	former  [][8]byte // the hashes of the names before
	oldest  int       // the index of the one that is forgotten next, once there are formerNames
	changes []time.Time
	turns   time.Time // when the last sign was seen that instances take turns
}

// Number counts the lives; 0 if none was ever named.
func (l *Lives) Number() int32 { return l.number }

// Name is what the last life that has named itself calls itself.
func (l *Lives) Name() string { return l.name }

// Since is when the current life was first heard of.
func (l *Lives) Since() time.Time { return l.since }

// WasBefore says whether an answer to a question from that time may be one of an earlier life that comes late.
func (l *Lives) WasBefore(asked time.Time) bool { return l.number > 0 && asked.Before(l.since) }

// Begin takes note that another life than before answers.
func (l *Lives) Begin(now time.Time) {
	if l.number > 0 {
		l.changes = append(l.changes, now)
		l.changes = l.changes[max(0, len(l.changes)-manyChanges):]
		if len(l.changes) == manyChanges && now.Sub(l.changes[0]) < changesIn {
			l.turns = now
		}
	}
	l.number++
	l.since = now
}

// Call takes note of what the current life calls itself.
func (l *Lives) Call(name string, now time.Time) {
	if name == l.name {
		return
	}
	if slices.Contains(l.former, hashOf(name)) {
		l.turns = now
	}
	if l.name != "" {
		l.remember(hashOf(l.name))
	}
	l.name = name
}

// remember notes an earlier name, in the place of the oldest one if there are too many.
func (l *Lives) remember(name [8]byte) {
	switch {
	case slices.Contains(l.former, name):
	case len(l.former) < formerNames:
		l.former = append(l.former, name)
	default:
		l.former[l.oldest] = name
		l.oldest = (l.oldest + 1) % formerNames
	}
}

func hashOf(name string) [8]byte {
	sum := sha256.Sum256([]byte(name))
	return [8]byte(sum[:8])
}

// TakeTurns says whether the names are those of instances that answer in turns. Then each of them may still have what
// it was given.
func (l *Lives) TakeTurns(now time.Time) bool {
	return !l.turns.IsZero() && now.Sub(l.turns) < takingTurns
}
