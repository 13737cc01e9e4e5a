package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm"
)

// shardWords list shards, such as 0-5,9.
func shardWords(ranges []drm.ShardRange) string {
	var texts []string
	for _, r := range ranges {
		if r.First == r.Last {
			texts = append(texts, fmt.Sprint(r.First))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ",")
}

func numbers(all []int) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = fmt.Sprint(n)
	}
	return strings.Join(texts, ",")
}

// countWords list counts by state, in the order of the states.
func countWords(states map[drm.State]int) string {
	var texts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		texts = append(texts, fmt.Sprintf("%d %s", states[state], state))
	}
	return strings.Join(texts, ", ")
}

// labelWords list labels by name.
func labelWords(labels map[string]string) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		texts = append(texts, name+"="+labels[name])
	}
	return strings.Join(texts, ",")
}
