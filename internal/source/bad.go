package source

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/record"
)

const (
	maxBadError = 256      // bytes of one bad item's error that are recorded
	maxBadTexts = 64 << 10 // bytes of all bad items that are recorded
)

// badLogged is how many bad items one log line names.
const badLogged = 5

// badSet identifies a set of bad items, in whatever order the source returns them.
type badSet struct {
	count  int
	digest uint64
}

// refuses returns an error if an answer has too many bad items to be used. It returns nil if its good items are used.
func (t *Term) refuses(bad BadItems, good int, before string) error {
	n, strict := bad.Count(), ""
	switch {
	case n > good:
	case n > 0 && t.o.Strict:
		strict = " (SourceStrict)"
	default:
		return nil
	}
	return bad.AsError(before +
		fmt.Sprintf("all of the answer is refused%s, since %d of its %d items are bad: ", strict, n, n+good))
}

// tellBad writes an answer's bad items into t.record. If they differ from those of the last answer of this term, it
// logs them and returns true.
func (t *Term) tellBad(bad BadItems, refused bool) (news bool) {
	first := bad.First()
	t.record.Bad, t.record.BadItems = bad.Count(), recordOf(first)
	before := t.bad
	t.bad = badSet{bad.Count(), bad.Digest()}
	switch {
	case before == t.bad:
		return false
	case t.bad.count == 0:
		t.o.Log.Info("the source has no bad items any more")
		return false
	}
	var texts []string
	for _, item := range first[:min(len(first), badLogged)] {
		texts = append(texts, excerpt.Clip(item.Text, maxBadError))
	}
	message := "the source has bad items; what they may stand for stays as it is"
	if refused {
		message = "the source has bad items, and its answer is refused"
	}
	_, keepAll := bad.Keep()
	t.o.Log.Warn(message, zap.Int("bad", t.bad.count), zap.Strings("first", texts), zap.Bool("removals_wait", keepAll))
	return true
}

// recordOf returns as many of the bad items as fit into the record.
func recordOf(bad []BadItem) []record.BadItem {
	var all []record.BadItem
	left := maxBadTexts
	for _, item := range bad {
		r := record.BadItem{
			Index: item.Index, ID: item.ID, Error: excerpt.Clip(item.Error, maxBadError), TooLarge: item.TooLarge,
		}
		if left -= len(r.ID) + len(r.Error); left < 0 {
			break
		}
		all = append(all, r)
	}
	return all
}
