package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/distributed-resource-manager/drm/retriever"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatHappensToRowsHappensToResources(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, &out, filepath.Join(t.TempDir(), "feeds.db"))
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range map[string][]string{
		"another interval": {`update {"id":"news","url":"https://example.org/news","every":120}`},
		"a pause":          {`terminate {"id":"sports","url":"https://example.org/sports","every":300}`},
		"one less and one more": {
			`terminate {"id":"weather"`, `handle {"id":"traffic","url":"https://example.org/traffic","every":60}`,
		},
	} {
		_, after, _ := strings.Cut(out.String(), "-- "+step+"\n")
		said, _, _ := strings.Cut(after, "-- ")
		for _, line := range want {
			if !strings.Contains(said, line) {
				t.Errorf("%s: %q is missing in %s", step, line, said)
			}
		}
	}
}

// This checks what the retriever makes of the values of a real database. SQLite has no booleans: they are 1 and 0.
func TestValuesOfSQLite(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1) // each connection has a database of its own
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE r (
		id INTEGER PRIMARY KEY, name TEXT, ratio REAL, ok BOOLEAN, at TIMESTAMP, raw BLOB, missing TEXT, object TEXT);
		INSERT INTO r VALUES (1, 'é<', 1.5, TRUE, '2026-01-02 03:04:05', x'6869', NULL, '{"a": [1]}')`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query string
		args  []any
		want  string // the object of the first row
		err   string
	}{
		{
			query: `SELECT * FROM r`,
			want: `{"id":"1","name":"é<","ratio":1.5,"ok":1,"at":"2026-01-02T03:04:05Z","raw":"hi",` +
				`"missing":null,"object":"{\"a\": [1]}"}`,
		},
		{query: `SELECT id, object AS data FROM r`, want: `{"id":"1","a":[1]}`},
		{query: `SELECT name AS id FROM r WHERE id = ?`, args: []any{1}, want: `{"id":"é<"}`},
		{query: `SELECT name AS id FROM r WHERE id = @id`, args: []any{sql.Named("id", 2)}},
		{query: `SELECT name FROM r`, err: `"id"`},
		{query: `SELECT missing AS id FROM r`, err: `row 1, column "id": id: got "NULL"`},
		{query: `SELECT id FROM r UNION ALL SELECT id FROM r`, err: `row 2: id "1" is also that of row 1`},
		{query: `SELECT id, name AS data FROM r`, err: `row 1, column "data"`},
		{query: `SELECT oops FROM r`, err: "oops"},
		{query: `SELECT id FROM r WHERE name = '`, err: "querying the database"},
	} {
		source, err := retriever.NewSQL(retriever.SQLConfig{DB: db, Query: c.query, Args: c.args, NumberIDs: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := source.Fetch(t.Context())
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want an error that says %s", c.query, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.query, err)
		case c.want == "" && len(got) > 0, c.want != "" && len(got) != 1:
			t.Errorf("%s: %d rows", c.query, len(got))
		case c.want != "":
			if diff := cmp.Diff(c.want, string(got[0].Data)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.query, diff)
			}
		}
	}
}

func TestAQueryWithoutEndIsGivenUp(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	source, err := retriever.NewSQL(retriever.SQLConfig{
		DB: db, Timeout: 100 * time.Millisecond,
		Query: `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS id FROM n`,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no full answer within 100ms") || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
