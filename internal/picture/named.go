package picture

import (
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

// namedOfEach is how many resources a status names of each kind.
const namedOfEach = 3

// Named is a resource that a status names, and why it is as it is.
type Named struct{ ID, Why string }

// Names are the first resources, by id, of those that a status counts.
type Names struct {
	Failed, Unassigned, NoRoom, Misplaced, Quarantined []Named
}

// note adds an assignment to the resources that are named, as far as it belongs there.
func (n *Names) note(p *Picture, a Assignment) {
	switch a.State {
	case StateUnassigned:
		switch {
		case p.awaits(a): // the members are named
		case p.view.DeclinesAny(a.Expected):
			name(&n.NoRoom, a.Resource, a.Error)
		default:
			name(&n.Unassigned, a.Resource, a.Error)
		}
		return
	case claims.Failed:
		name(&n.Failed, a.Resource, a.Error)
	case claims.Quarantined:
		name(&n.Quarantined, a.Resource, a.Error)
	}
	if a.Member != a.Expected {
		name(&n.Misplaced, a.Resource, "it is with "+a.Member+", and belongs to "+a.Expected)
	}
}

// name keeps the first resources by id.
func name(all *[]Named, id, why string) {
	at, _ := slices.BinarySearchFunc(*all, id, func(n Named, id string) int { return strings.Compare(n.ID, id) })
	if at == namedOfEach {
		return
	}
	*all = slices.Insert(*all, at, Named{id, why})
	if len(*all) > namedOfEach {
		*all = (*all)[:namedOfEach]
	}
}
