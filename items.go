package drm

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// The most of the bad items that is recorded, in bytes: of what is wrong with one, and of all texts together.
const (
	maxBadError = 256
	maxBadTexts = 64 << 10
)

// errTooLarge is what is wrong with an item that etcd did not take. Its entry stays what it was.
var errTooLarge = errors.New("it does not fit into one request to etcd")

// toItems checks what a Retriever returned. What is not a resource is added to what the Retriever itself said is bad.
func toItems(resources []Resource, said *BadItemsError) (items []catalogue.Item, bad *BadItemsError) {
	bad = &BadItemsError{}
	if said != nil {
		bad = said
	}
	items = make([]catalogue.Item, len(resources))
	const piece = 10_000
	found := make([]BadItemsError, (len(resources)+piece-1)/piece) // by piece, so that the first ones are told of
	var checking errgroup.Group
	checking.SetLimit(runtime.GOMAXPROCS(0))
	for n := range found {
		checking.Go(func() error {
			for i := n * piece; i < min((n+1)*piece, len(resources)); i++ {
				object, err := resources[i].checked()
				if err != nil {
					found[n].Add(BadItem{Index: i, ID: resources[i].ID, Err: err}, idWithin(resources[i].Data)...)
					continue
				}
				items[i] = catalogue.Item{ID: resources[i].ID, Data: object}
			}
			return nil
		})
	}
	_ = checking.Wait() // what is bad is in found
	for n := range found {
		bad.merge(&found[n])
	}
	type place struct{ good, index int }
	seen := make(map[string]place, len(items))
	good := 0
	for i, item := range items {
		if item.ID == "" { // it is bad
			continue
		}
		if first, twice := seen[item.ID]; twice {
			bad.Add(BadItem{
				Index: i, ID: item.ID, Repeats: bytes.Equal(item.Data, items[first.good].Data),
				Err: &InputError{Field: "id", Value: item.ID, Want: fmt.Sprintf("an id that item %d does not have already", first.index)},
			})
			continue
		}
		seen[item.ID] = place{good, i}
		items[good] = item
		good++
	}
	clear(items[good:])
	return items[:good], bad
}

// idWithin returns the id that an object has, if it has one that is legible.
func idWithin(text []byte) []string {
	if id, has, err := object.ID(text); has && err == nil {
		return []string{id}
	}
	return nil
}

// refuses returns why nothing of an answer is taken, nil where what is good is.
func (o *office) refuses(bad *BadItemsError, good int, before string) error {
	switch all := bad.count + good; {
	case bad.count > good:
		return badItems(before, fmt.Sprintf("all of the answer is refused, since %d of its %d items are bad: ", bad.count, all), bad)
	case bad.count > 0 && o.m.cfg.SourceStrict:
		return badItems(before, fmt.Sprintf("all of the answer is refused (SourceStrict), since %d of its %d items are bad: ", bad.count, all), bad)
	default:
		return nil
	}
}

// badItems is the error that tells of bad items, with a copy of them: the user may have it for long.
func badItems(before, why string, bad *BadItemsError) error {
	bad = bad.told()
	return &toldError{usercode.Clip(before+why+bad.Error(), usercode.MaxText), bad}
}

// tellBad takes an answer's bad items into the record. It logs them, and reports true, where they are other ones than those
// of the last answer, or the first that this term has met.
func (o *office) tellBad(bad *BadItemsError, refused bool) (news bool) {
	o.record.Bad, o.record.BadItems = bad.count, recordOf(bad)
	before := o.badSeen
	o.badSeen = badSet{bad.count, bad.doubt}
	switch {
	case before == o.badSeen:
		return false
	case bad.count == 0:
		o.m.log.Info("the source has no bad items any more")
		return false
	}
	var first []string
	for _, item := range bad.items[:min(len(bad.items), 5)] {
		first = append(first, usercode.Clip(item.describe(), maxBadError))
	}
	message := "the source has bad items; what they may stand for stays as it is"
	if refused {
		message = "the source has bad items, and its answer is refused"
	}
	o.m.log.Warn(message, zap.Int("bad", bad.count),
		zap.Strings("first", first), zap.Bool("removals wait", bad.keepAll))
	return true
}

// badSet tells sets of bad items apart, in whatever order the source has them.
type badSet struct {
	count int
	doubt uint64
}

func recordOf(bad *BadItemsError) []record.BadItem {
	var all []record.BadItem
	left := maxBadTexts
	for _, item := range bad.items {
		r := record.BadItem{Index: item.Index, ID: item.ID, Error: usercode.Clip(item.Err.Error(), maxBadError), TooLarge: item.Err == errTooLarge} //nolint:errorlint // this very one
		if left -= len(r.ID) + len(r.Error); left < 0 {
			break
		}
		all = append(all, r)
	}
	return all
}
