package picture

import (
	"cmp"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// mostSuspensions is how many resources a Status names that are suspended.
const mostSuspensions = 100

// Suspended is a resource that an operator has suspended.
type Suspended struct {
	Resource string
	catalogue.Suspension
}

// addSuspended counts a resource that an operator has suspended, and keeps it if it is among the first ones by id.
func (s *Status) addSuspended(one Suspended) {
	s.Suspended++
	at, _ := slices.BinarySearchFunc(s.Suspensions, one.Resource, func(s Suspended, id string) int {
		return cmp.Compare(s.Resource, id)
	})
	if at < mostSuspensions {
		s.Suspensions = slices.Insert(s.Suspensions, at, one)
		s.Suspensions = s.Suspensions[:min(len(s.Suspensions), mostSuspensions)]
	}
}

// suspendedBy says who has suspended a resource, since when and why.
func suspendedBy(s *catalogue.Suspension) string {
	text := "it is suspended"
	if s.By != "" {
		text += " by " + s.By
	}
	if !s.Since.IsZero() {
		text += " since " + s.Since.UTC().Format(time.RFC3339)
	}
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}
