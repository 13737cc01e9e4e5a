// Fencing protects data from a late write of a member that has lost the resource and does not know it yet, because it
// was stopped or cut off between its check and its write. The database remembers the highest token of each resource,
// and refuses lower ones in the same statement that writes.
//
//	go run ./fencing
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
	"github.com/distributed-resource-manager/drm/handler"
)

const app = "fencing-example"

func main() {
	lab.Main(func(ctx context.Context) error {
		dir, err := os.MkdirTemp("", "drm-fencing-")
		if err != nil {
			return err
		}
		return errors.Join(run(ctx, os.Stdout, filepath.Join(dir, "positions.db")), os.RemoveAll(dir))
	})
}

// errOutdated says that the database has seen a newer claim of the resource than the one that the write was under. Its
// member has lost the resource: there is nothing to try again.
var errOutdated = errors.New("a newer claim was seen")

// positions has how far each feed was read: the one thing that two members must never write at once.
type positions struct{ db *sql.DB }

func openPositions(ctx context.Context, file string) (*positions, error) {
	db, err := sql.Open("sqlite", file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS positions (
		feed TEXT PRIMARY KEY, token INTEGER NOT NULL, position INTEGER NOT NULL)`); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &positions{db}, nil
}

// claim makes the database refuse the writes of every earlier claim from now on, and returns the position to go on
// from. It must come first: a late write of the member before is harmless only once the database knows the new token.
func (p *positions) claim(ctx context.Context, c drm.Claim) (position int64, err error) {
	err = p.db.QueryRowContext(ctx, `
		INSERT INTO positions (feed, token, position) VALUES (?, ?, 0)
		ON CONFLICT (feed) DO UPDATE SET token = excluded.token WHERE excluded.token >= positions.token
		RETURNING position`, c.Resource.ID, c.Token).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("feed %s, token %d: %w", c.Resource.ID, c.Token, errOutdated)
	}
	return position, err
}

// save stores a position, if no newer claim than this one was seen. Check and write are one statement: no other write
// comes between the two.
func (p *positions) save(ctx context.Context, c drm.Claim, position int64) error {
	result, err := p.db.ExecContext(ctx, `
		INSERT INTO positions (feed, token, position) VALUES (?, ?, ?)
		ON CONFLICT (feed) DO UPDATE SET token = excluded.token, position = excluded.position
		WHERE excluded.token >= positions.token`,
		c.Resource.ID, c.Token, position)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("feed %s, token %d: %w", c.Resource.ID, c.Token, errOutdated))
	}
	return nil
}

// run lets node-1 read a feed, and node-2 take it over. Then a write of node-1 comes late.
func run(ctx context.Context, out io.Writer, file string) (err error) {
	etcd, stopEtcd, err := lab.Etcd(ctx)
	if err != nil {
		return err
	}
	defer stopEtcd()
	store, err := openPositions(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.db.Close()) }()
	say := log.New(out, "", 0)

	handled := make(chan drm.Claim, 1)
	start := func(id string) (*drm.Manager, error) {
		return drm.Start(ctx, drm.Config{
			App: app, ID: id, Etcd: etcd, AllocateOnly: true,
			Handler: handler.New(handler.Funcs{
				Handle: func(ctx context.Context, c drm.Claim) error {
					position, err := store.claim(ctx, c)
					if err != nil {
						return err
					}
					say.Printf("%s goes on from %d", id, position)
					if err := store.save(ctx, c, position+100); err != nil {
						return err
					}
					handled <- c
					return nil
				},
				Terminate: func(context.Context, drm.Claim) error { return nil },
			}),
		})
	}
	next := func() (c drm.Claim, err error) {
		select {
		case c = <-handled:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		return c, err
	}

	first, err := start("node-1")
	if err != nil {
		return err
	}
	if err := first.Allocate(ctx, drm.Resource{ID: "news"}); err != nil {
		return errors.Join(err, lab.Stop(first))
	}
	old, err := next()
	if err := errors.Join(err, lab.Stop(first)); err != nil {
		return err
	}
	second, err := start("node-2")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(second)) }()
	if _, err := next(); err != nil {
		return err
	}
	switch late := store.save(ctx, old, 7); {
	case late == nil:
		return errors.New("a write of node-1's that came late was not refused")
	case !errors.Is(late, errOutdated):
		return late
	}
	say.Print("node-1 comes late, and is refused")
	return nil
}
