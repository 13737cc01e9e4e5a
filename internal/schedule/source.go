package schedule

import (
	"math/rand/v2"

	"pgregory.net/rapid"
)

// Source makes the choices from which a Plan is drawn: each is a number from 0 to n-1. Smaller numbers are simpler, for
// a Source that shrinks.
type Source interface {
	Choose(name string, n int) int
}

// Random is a Source that chooses at random. of tells the simulations apart, so that one seed does not give all of them
// the same choices.
func Random(seed, of uint64) Source { return random{rand.New(rand.NewPCG(seed, of))} }

type random struct{ r *rand.Rand }

func (r random) Choose(_ string, n int) int { return r.r.IntN(n) }

// draws makes rapid a Source.
type draws struct{ t *rapid.T }

func (d draws) Choose(name string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, name) }
