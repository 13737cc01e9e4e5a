package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distributed-resource-manager/drm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnOldOwnersLateWriteIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	file := filepath.Join(t.TempDir(), "positions.db")
	err := run(ctx, &out, file)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	want := "node-1 goes on from 0\nnode-2 goes on from 100\nnode-1 comes late, and is refused\n"
	if out.String() != want {
		t.Errorf("it said %q, want %q", out.String(), want)
	}
	store, err := openPositions(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.db.Close() }()
	var position int64
	row := store.db.QueryRowContext(ctx, `SELECT position FROM positions WHERE feed = 'news'`)
	if err := row.Scan(&position); err != nil || position != 200 {
		t.Errorf("position %d, %v, want node-2's 200", position, err)
	}
}

func TestOfManyWritersTheHighestTokenStays(t *testing.T) {
	store, err := openPositions(t.Context(), filepath.Join(t.TempDir(), "positions.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.db.Close() }()
	under := func(token int64) drm.Claim {
		return drm.NewClaim(app, "m", drm.Resource{ID: "a/'; DROP TABLE positions"}, token, nil)
	}
	var wg sync.WaitGroup
	for token := int64(1); token <= 20; token++ {
		wg.Go(func() {
			if err := store.save(t.Context(), under(token), token); err != nil && !errors.Is(err, errOutdated) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if position, err := store.claim(t.Context(), under(20)); err != nil || position != 20 {
		t.Errorf("position %d, %v, want that of the highest token", position, err)
	}
	if err := store.save(t.Context(), under(20), 21); err != nil {
		t.Errorf("the same token again: %v", err)
	}
	_, claiming := store.claim(t.Context(), under(19))
	for _, err := range []error{store.save(t.Context(), under(19), 0), claiming} {
		if !errors.Is(err, errOutdated) || !strings.Contains(err.Error(), "token 19") {
			t.Errorf("a lower token: %v", err)
		}
	}
}
