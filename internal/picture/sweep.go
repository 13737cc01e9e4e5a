package picture

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// sweep waits until nothing is missing in any of several shards, one after the other. It watches the group and one
// shard, and does not read those again in which nothing was missing.
type sweep struct {
	r      *Reader
	member string           // the member that the wait is about
	prefix func(int) string // the prefix of the keys that are read of a shard

	// which returns the shards to read. It is called after each change of the group. If shards is nil, the wait goes on
	// without reading any, and why says what is missing.
	which func(*Roll) (shards []int, why string, err error)
	// missing describes what is missing in a shard with these keys; "" if nothing is.
	missing func(kvs []*mvccpb.KeyValue) string

	told func(last string) // hears what is missing when that changes; nil: nobody does

	fine map[int]bool // the shards in which nothing was missing
	at   int          // the shard in which something was missing last; -1: none
}

// run returns when nothing is missing. If ctx ends first, the error is a *WaitError.
func (s *sweep) run(ctx context.Context) error {
	s.fine, s.at = map[int]bool{}, -1
	last := ""
	tell := func() {
		if s.told != nil && last != "" {
			s.told(last)
		}
	}
	for {
		watched := s.at
		prefixes := []string{s.r.Layout.Group(), s.r.Layout.Stats(s.member)}
		if watched >= 0 {
			prefixes = append(prefixes, s.prefix(watched))
		}
		all := false
		err := s.r.until(ctx, &last, prefixes, func(ctx context.Context) (bool, error) {
			roll, err := s.r.Roll(ctx)
			if err != nil {
				return false, err
			}
			shards, why, err := s.which(roll)
			if err != nil {
				return false, err
			}
			if shards == nil {
				last, s.at = why, -1
				tell()
				clear(s.fine)
				return watched != s.at, nil
			}
			missing, err := s.look(ctx, shards)
			if err != nil {
				return false, err // and last is what was known before
			}
			last = missing
			tell()
			all = last == ""
			return all || watched != s.at, nil // a change of s.at ends until, so that another shard is watched
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return ended(ctx, fmt.Sprintf("member %q", s.member), last, err)
		case err != nil:
			return fmt.Errorf("wait for member %q: %w", s.member, err)
		case all:
			return nil
		}
	}
}

// sweepBatch is how many shards are read at once.
const sweepBatch = 8

// look reads shards until it finds one in which something is missing, and describes that; "" if nothing is missing.
func (s *sweep) look(ctx context.Context, shards []int) (string, error) {
	rest := slices.DeleteFunc(slices.Clone(shards), func(n int) bool { return s.fine[n] })
	for len(rest) > 0 {
		batch := rest[:min(len(rest), sweepBatch)]
		if batch[0] == s.at { // something is probably still missing there, so that the others need not be read
			batch = batch[:1]
		}
		rest = rest[len(batch):]
		prefixes := make([]string, len(batch))
		for i, n := range batch {
			prefixes[i] = s.prefix(n)
		}
		found, err := s.r.below(ctx, prefixes)
		if err != nil {
			return "", fmt.Errorf("read the shards: %w", err)
		}
		for i, n := range batch {
			if what := s.missing(found[i]); what != "" {
				s.at = n
				return what, nil
			}
			s.fine[n] = true
		}
	}
	return "", nil
}
