package lease

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Batches keep to their limits, lose nothing, repeat nothing, and do not cut a group that fits into one batch.
func TestBatchesKeepGroupsTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxOps := rapid.IntRange(1, 20).Draw(t, "max ops")
		maxBytes := rapid.IntRange(1, 4000).Draw(t, "max bytes")
		q := &queue{}
		submitted, taken := 0, make(map[string]bool)
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			// All ops that a round submits wait at the same time. The ops that an earlier round left come first.
			left := q.len()
			groups, bytes := make(map[int]int), make(map[int]int)
			for range rapid.IntRange(0, 60).Draw(t, "ops") {
				op := Op{
					Key:   fmt.Sprint(submitted),
					Group: rapid.IntRange(0, 8).Draw(t, "group"),
					Value: make([]byte, rapid.SampledFrom([]int{0, 10, 100, 5000}).Draw(t, "value")),
				}
				submitted++
				groups[op.Group]++
				bytes[op.Group] += size(&op)
				q.add(op)
			}
			parts := make(map[int]int)
			order := []int{}
			// Take batches at least until it is this round's turn, so that what the next round finds is in the order of
			// its groups.
			batches := rapid.IntRange(0, 60).Draw(t, "batches")
			for n := 0; (n < batches || len(order) == 0) && !q.empty(); n++ {
				batch := q.take(maxOps, maxBytes)
				total := 0
				in := make(map[int]bool)
				for i := range batch {
					op := &batch[i]
					total += size(op)
					if taken[op.Key] {
						t.Fatalf("%s was taken twice", op.Key)
					}
					taken[op.Key] = true
					if left > 0 {
						left--
						continue
					}
					in[op.Group] = true
					order = append(order, op.Group)
				}
				for g := range in {
					parts[g]++
				}
				if len(batch) == 0 || len(batch) > maxOps || total > maxBytes && len(batch) > 1 {
					t.Fatalf("a batch of %d ops, %d bytes", len(batch), total)
				}
			}
			if !slices.IsSorted(order) {
				t.Fatalf("groups came as %v", order)
			}
			for g, n := range parts {
				if groups[g] <= maxOps && bytes[g] <= maxBytes && n > 1 {
					t.Fatalf("group %d of %d ops and %d bytes was cut in %d", g, groups[g], bytes[g], n)
				}
			}
		}
		for !q.empty() {
			for _, op := range q.take(maxOps, maxBytes) {
				if taken[op.Key] {
					t.Fatalf("%s was taken twice", op.Key)
				}
				taken[op.Key] = true
			}
		}
		if len(taken) != submitted {
			t.Fatalf("%d of %d came out", len(taken), submitted)
		}
	})
}

func TestSmallGroupsShareABatch(t *testing.T) {
	q := &queue{}
	for i := range 300 {
		q.add(Op{Key: fmt.Sprint(i), Group: i % 100})
	}
	var sizes []int
	for !q.empty() {
		sizes = append(sizes, len(q.take(127, 1<<20)))
	}
	if want := []int{126, 126, 48}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
}

func TestLargeGroupFillsUpABatchIfThatCutsItNoMore(t *testing.T) {
	for _, test := range []struct {
		first, second int
		want          []int
	}{
		{50, 127, []int{50, 127}},      // the second group is whole if it begins a batch
		{50, 128, []int{127, 51}},      // the second group is cut in two either way
		{50, 250, []int{50, 127, 123}}, // the second group would be cut in three
		{50, 204, []int{127, 127}},
	} {
		q := &queue{}
		for i := range test.first + test.second {
			q.add(Op{Key: fmt.Sprint(i), Group: min(i/test.first, 1)})
		}
		var sizes []int
		for !q.empty() {
			sizes = append(sizes, len(q.take(127, 1<<20)))
		}
		if !slices.Equal(sizes, test.want) {
			t.Errorf("groups of %d and %d: batches of %v, want %v", test.first, test.second, sizes, test.want)
		}
	}
}
