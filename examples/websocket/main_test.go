package main

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachFeedHasExactlyOneConnectionAfterEachStep(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	feed := newServer()
	owners := map[string]map[string]string{}
	err := run(ctx, &out, feed, func(step string) {
		owners[step] = feed.owners()
		want := feeds
		if step == "the end" {
			want = 0
		}
		counts := feed.counts()
		if len(counts) != want {
			t.Errorf("%s: connections %v, want %d feeds with one each", step, counts, want)
		}
		for path, n := range counts {
			if n != 1 {
				t.Errorf("%s: %s has %d connections", step, path, n)
			}
		}
	})
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(owners) != 4 {
		t.Errorf("steps: %v", owners)
	}
	for path, n := range feed.most {
		if n != 1 {
			t.Errorf("%s had %d connections at once", path, n)
		}
	}
	moved := 0
	for path, node := range owners["node-2 has joined, and taken over its share"] {
		if node == "node-2" {
			moved++
		} else if before := owners["node-1 is alone"][path]; before != node {
			t.Errorf("%s went from %s to %s", path, before, node)
		}
	}
	if moved == 0 || moved == feeds {
		t.Errorf("node-2 took over %d of %d", moved, feeds)
	}
}

func TestTheServerRefusesAnOlderToken(t *testing.T) {
	s := newServer()
	for _, c := range []struct {
		token string
		fine  bool
	}{{"5", true}, {"4", false}, {"5", true}, {"6", true}, {"5", false}, {"", false}} {
		if err := s.enter("/feed", http.Header{"Drm-Token": {c.token}}); (err == nil) != c.fine {
			t.Errorf("token %q: %v", c.token, err)
		}
	}
}
