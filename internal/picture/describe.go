package picture

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/membership"
)

// ShardRange is consecutive shards.
type ShardRange struct{ First, Last int }

// rangesOf returns the shards of which a set is true.
func rangesOf(set []bool) []ShardRange {
	all := []ShardRange{}
	for n, in := range set {
		switch last := len(all) - 1; {
		case !in:
		case last >= 0 && all[last].Last == n-1:
			all[last].Last = n
		default:
			all = append(all, ShardRange{n, n})
		}
	}
	return all
}

// Trail is a trail's key: the resources that may be to blame if their member dies now, or was to blame when it died.
type Trail struct {
	Versions

	Shard    int
	Lease    int64
	Member   string
	At       time.Time // when it was written, by the member's clock
	IDs      []string
	Returned int  // how many of IDs, from the first, had returned from Handle or Update
	Alone    bool // nothing else began beside them
}

// ResourceDetail is all that is known of one resource.
type ResourceDetail struct {
	Explanation

	Entries []Past // what the catalogue's entry has said, the latest first
	Claims  []Past // what the claim has said under its token, the latest first
}

// DescribeResource tells all that is known of a resource. created is the create revision of the app's config key. The
// error matches ErrNotFound if there is neither an entry, nor a claim, nor a record of quarantine.
func (r *Reader) DescribeResource(ctx context.Context, id string, created int64) (ResourceDetail, error) {
	e, err := r.Explain(ctx, id, created, 0)
	if err != nil {
		return ResourceDetail{}, err
	}
	d := ResourceDetail{Explanation: e, Entries: []Past{}, Claims: []Past{}}
	if e.Entry == nil && e.Claim == nil && e.Quarantine == nil {
		return d, fmt.Errorf("resource %q: %w", id, ErrNotFound)
	}
	if e.Entry != nil {
		d.Entries, err = r.history(ctx, r.Layout.Resource(e.Shard, id), e.Revision, entryText)
	}
	for i := range d.Entries {
		if err == nil {
			var by deed.Origin
			by, err = r.deedAt(ctx, d.Entries[i].Revision)
			d.Entries[i].By, d.Entries[i].Why = by.By, by.Why
		}
	}
	if err == nil && e.Claim != nil {
		d.Claims, err = r.history(ctx, r.Layout.Claim(e.Shard, id), e.Revision, claimText)
	}
	if err != nil {
		return d, fmt.Errorf("read what resource %q has been: %w", id, err)
	}
	return d, nil
}

// entryText says what an entry's value says, without the data.
func entryText(value []byte) string {
	e, err := catalogue.Decode(value)
	if err != nil {
		return "not understood"
	}
	text := fmt.Sprintf("%s, %d bytes", OriginText(e.FromSource, e.Allocated), len(e.Data))
	if s := e.Suspension; s != nil {
		text += ", " + strings.TrimPrefix(suspendedBy(s), "it is ")
	} else if e.Suspended {
		text += ", suspended"
	}
	return text
}

// OriginText says who wants a resource handled: source, allocated, both or nobody.
func OriginText(fromSource, allocated bool) string {
	switch {
	case fromSource && allocated:
		return "both"
	case fromSource:
		return "source"
	case allocated:
		return "allocated"
	default:
		return "nobody"
	}
}

func claimText(value []byte) string {
	c, err := claims.Decode(value)
	if err != nil {
		return "not understood"
	}
	if c.Error != "" {
		return fmt.Sprintf("%s at %s: %s", c.State, c.Member, c.Error)
	}
	return fmt.Sprintf("%s at %s", c.State, c.Member)
}

// memberText says what the value of a member's key says.
func memberText(value []byte) string {
	var m membership.Record
	if json.Unmarshal(value, &m) != nil {
		return "not understood"
	}
	text := string(m.State)
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	if m.Leaves {
		text += ", about to stop"
	}
	return fmt.Sprintf("%s; slots: %d", text, m.Holds())
}
