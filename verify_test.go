package drm

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// What is read of an app is told in the words of this package: package picture has the same texts for them.
func TestWhatIsReadHasTheTextsOfTheWords(t *testing.T) {
	kinds := map[ViolationKind]picture.Kind{
		ViolationUnassigned: picture.KindUnassigned, ViolationMisplaced: picture.KindMisplaced,
		ViolationOrphan: picture.KindOrphan, ViolationUnknownMember: picture.KindUnknownMember,
		ViolationStale: picture.KindStale, ViolationNoLease: picture.KindNoLease,
		ViolationSlotShared: picture.KindSlotShared, ViolationSlotStray: picture.KindSlotStray,
		ViolationWrongShard: picture.KindWrongShard, ViolationNoMembers: picture.KindNoMembers,
		ViolationNoConfig: picture.KindNoConfig, ViolationCorrupt: picture.KindCorrupt,
		ViolationTooLarge: picture.KindTooLarge, ViolationBadItem: picture.KindBadItem,
	}
	for word, kind := range kinds {
		if got := violationOf(picture.Violation{Kind: kind}).Kind; got != word {
			t.Errorf("kind %q is told as %q, want %q", kind, got, word)
		}
	}
	states := map[State]string{
		StateUnassigned: picture.StateUnassigned, StateClaimed: claims.Claimed, StateActive: claims.Active,
		StateFailed: claims.Failed,
	}
	for word, state := range states {
		if got := assignmentOf(picture.Assignment{State: state}).State; got != word {
			t.Errorf("state %q is told as %q, want %q", state, got, word)
		}
	}
	orders := map[string]string{DrainOrdered: picture.DrainOrdered, DrainIgnored: picture.DrainIgnored}
	for word, order := range orders {
		if got := memberOf(picture.Member{Drain: order}).Drain; got != word {
			t.Errorf("order %q is told as %q, want %q", order, got, word)
		}
	}
}
