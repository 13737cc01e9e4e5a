package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// plugin is a resourcesRetrieverPlugin. Its resourcesRetrieverConfig is the struct's own fields.
type plugin struct {
	db    *sql.DB
	every time.Duration

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Setup is setup. It begins to look for new resources, and allocates what it finds.
func (p *plugin) Setup(_ context.Context, api drm.API) error {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.done.Go(func() {
		ticker := time.NewTicker(p.every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := p.allocateNew(ctx, api); err != nil {
				log.Printf("looking for new resources: %v", err)
			}
		}
	})
	return nil
}

// allocateNew takes a resource off the list once it is allocated. Every member looks, and two may find the same one; to
// allocate it twice changes nothing.
func (p *plugin) allocateNew(ctx context.Context, api drm.API) error {
	found, err := p.read(ctx, `SELECT id, data FROM inbox`)
	if err != nil {
		return err
	}
	for _, r := range found {
		if err := api.Allocate(ctx, r); err != nil {
			return err
		}
		if _, err := p.db.ExecContext(ctx, `DELETE FROM inbox WHERE id = ?`, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// Fetch is fetchResources.
func (p *plugin) Fetch(ctx context.Context) ([]drm.Resource, error) {
	return p.read(ctx, `SELECT id, data FROM resources`)
}

func (p *plugin) read(ctx context.Context, query string) ([]drm.Resource, error) {
	rows, err := p.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []drm.Resource
	for rows.Next() {
		var id, data string
		if err := rows.Scan(&id, &data); err != nil {
			return nil, err
		}
		all = append(all, drm.Resource{ID: id, Data: json.RawMessage(data)})
	}
	return all, rows.Err()
}

// TearDown is tearDown.
func (p *plugin) TearDown(context.Context) error {
	p.cancel()
	p.done.Wait()
	return nil
}
