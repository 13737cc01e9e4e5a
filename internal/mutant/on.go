//go:build mutant

package mutant

import (
	"fmt"
	"os"
	"slices"
)

// active is the fault in force; empty: none.
var active = fromEnvironment()

func fromEnvironment() Mutant {
	m := Mutant(os.Getenv("DRM_MUTANT"))
	if m != "" && !slices.ContainsFunc(All, func(k Known) bool { return k.Mutant == m }) {
		panic(fmt.Sprintf("DRM_MUTANT is %q, want a name that the documentation of package mutant has", m))
	}
	return m
}

// Is reports whether a fault is in force.
func Is(m Mutant) bool { return m == active }

// Set puts another fault in force, or none. Nothing that asks Is may run meanwhile.
func Set(m Mutant) { active = m }
