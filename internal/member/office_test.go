package member

import (
	"testing"

	"github.com/distributed-resource-manager/drm/membership"
)

// A start waits no longer for the first fetch once another member asks the source. The coordinator's key of its own
// last lease says nothing: nobody asks until that has ended.
func TestAnotherCoordinatorEndsTheWaitForTheFirstFetch(t *testing.T) {
	for name, c := range map[string]struct {
		coordinator string
		ends        bool
	}{
		"a member with a source":   {"with", true},
		"a member without one":     {"without", false},
		"a member that is unknown": {"unknown", true},
		"this member, before":      {"a", false},
	} {
		t.Run(name, func(t *testing.T) {
			ended := false
			p := &place{id: "a", told: told{firstFetch: func(error) { ended = true }}}
			p.heedCoordinator(&membership.View{
				Coordinator: membership.Coordinator{ID: c.coordinator, CreateRevision: 7},
				Members: map[string]membership.Member{
					"a":       {Record: membership.Record{Source: true}},
					"with":    {Record: membership.Record{Source: true}},
					"without": {},
				},
			})
			if ended != c.ends {
				t.Errorf("the wait has ended: %v, want %v", ended, c.ends)
			}
		})
	}
}
