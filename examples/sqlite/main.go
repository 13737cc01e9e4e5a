// Sqlite takes its resources from a table: each row is a resource, and changes of rows reach the handler.
//
//	go run ./sqlite
//
// The driver is modernc.org/sqlite, which needs no C compiler. Any other of database/sql would do, with its own SQL.
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
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/retriever"
)

const app = "sqlite-example"

func main() {
	lab.Main(func(ctx context.Context) error {
		dir, err := os.MkdirTemp("", "drm-sqlite-")
		if err != nil {
			return err
		}
		return errors.Join(run(ctx, os.Stdout, filepath.Join(dir, "feeds.db")), os.RemoveAll(dir))
	})
}

// steps are the changes of the table, each with how many calls of the handler it makes, and how many resources there
// are then.
var steps = []struct {
	what, sql        string
	calls, resources int
}{
	{"three feeds", `
		INSERT INTO feeds (name, url, every) VALUES
			('news', 'https://example.org/news', 60),
			('sports', 'https://example.org/sports', 300),
			('weather', 'https://example.org/weather', 900)`, 3, 3},
	{"another interval", `UPDATE feeds SET every = 120 WHERE name = 'news'`, 1, 3},
	{"a pause", `UPDATE feeds SET paused = TRUE WHERE name = 'sports'`, 1, 2},
	{"one less and one more", `
		DELETE FROM feeds WHERE name = 'weather';
		INSERT INTO feeds (name, url, every) VALUES ('traffic', 'https://example.org/traffic', 60)`, 2, 2},
}

func run(ctx context.Context, out io.Writer, file string) (err error) {
	db, err := sql.Open("sqlite", file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `CREATE TABLE feeds (
		name TEXT PRIMARY KEY, url TEXT NOT NULL, every INTEGER NOT NULL,
		paused BOOLEAN NOT NULL DEFAULT FALSE)`); err != nil {
		return err
	}
	etcd, stopEtcd, err := lab.Etcd(ctx)
	if err != nil {
		return err
	}
	defer stopEtcd()
	client, err := drm.NewClient(ctx, drm.ClientConfig{App: app, Etcd: etcd})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	// Each of these becomes {"id":"news","url":"https://example.org/news","every":60}.
	feeds, err := retriever.NewSQL(retriever.SQLConfig{
		DB: db, Query: `SELECT name AS id, url, every FROM feeds WHERE paused = ?`, Args: []any{false},
	})
	if err != nil {
		return err
	}
	say := log.New(out, "", 0) // several goroutines print
	done := make(chan string, 100)
	tell := func(what string) func(context.Context, drm.Claim) error {
		return func(_ context.Context, c drm.Claim) error {
			say.Printf("%s %s", what, c.Resource.Data)
			done <- what + " " + c.Resource.ID
			return nil
		}
	}
	m, err := drm.Start(ctx, drm.Config{
		App: app, ID: "node-1", Etcd: etcd,
		Retriever: feeds, PollInterval: 200 * time.Millisecond, // a table does not say that it has changed
		Handler: handler.New(handler.Funcs{
			Handle: tell("handle"), Update: tell("update"), Terminate: tell("terminate"),
		}),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(m)) }()

	for _, step := range steps {
		say.Printf("-- %s", step.what)
		if _, err := db.ExecContext(ctx, step.sql); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		for range step.calls {
			select {
			case <-done:
			case <-ctx.Done():
				return fmt.Errorf("%s: %w", step.what, context.Cause(ctx))
			}
		}
		if err := lab.Until(ctx, client, step.what, lab.Spread(step.resources, 1)); err != nil {
			return err
		}
	}
	return nil
}
