package source

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// The most of the bad items that is recorded, in bytes: of what is wrong with one, and of all texts together.
const (
	maxBadError = 256
	maxBadTexts = 64 << 10
)

// badLogged is how many bad items a line of the log has.
const badLogged = 5

// badSet tells sets of bad items apart, in whatever order the source has them.
type badSet struct {
	count  int
	digest uint64
}

// refuses returns why nothing of an answer is taken, and nil where what is good of it is.
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

// tellBad takes an answer's bad items into the record. It logs them, and reports true, where they are other ones than
// those of the last answer, or the first that this term has met.
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

// recordOf returns as many of the bad items as the record has room for.
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
