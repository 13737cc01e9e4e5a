package retriever

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/secrets"
)

// DefaultMaxRows is how many rows the answer of a query may have where nothing else was said.
const DefaultMaxRows = 1_000_000

// Columns with a meaning.
const (
	columnID   = "id"
	columnData = "data"
)

// SQLConfig says what to ask a database. DB and Query are required; zero values of the rest take the defaults, and a
// value out of its range is a *drm.InputError.
type SQLConfig struct {
	// DB is the caller's own, with whatever driver; it stays open when DRM is done with it.
	DB *sql.DB
	// Query returns one row a resource. Its column "id" is the resource's id; if there is a column "data", its text is
	// the resource's JSON object (null: an object of nothing but the id), and there may be no further column. Without
	// one, the further columns become the fields of the object, named as they are: text as strings, numbers, booleans,
	// null, and times as RFC 3339 has them. Name a column with AS where it has another name, or none.
	Query string
	// Args of the query. Texts among them of 4 bytes and more are taken for secrets: no error of the database tells
	// them.
	Args []any

	// Timeout bounds the query, to its last row; the context given to Fetch does too. Raised, a slow database is waited
	// for; lowered, a dead one is given up sooner. Default 30 s; 1 ms to 24 h.
	Timeout time.Duration
	// NumberIDs accepts an id that is a whole number, and makes a string of it, in a "data" object too. Default false,
	// for the reason that DecodeOptions has.
	NumberIDs bool
	// MaxRows bounds the rows; one more is an error. Raised, a larger list is accepted, and a broken query can make the
	// coordinator use more memory. Default 1,000,000; at least 1.
	MaxRows int
}

// SQL is a source that is a query of a database. Each Fetch runs it anew. It is safe for use from any goroutine.
type SQL struct {
	cfg     SQLConfig
	secrets secrets.Set
}

var _ drm.Retriever = (*SQL)(nil)

// NewSQL checks the configuration and makes a source of it. It asks the database nothing. The error is a
// *drm.InputError that names the field.
func NewSQL(cfg SQLConfig) (*SQL, error) {
	if cfg.DB == nil {
		return nil, &drm.InputError{Field: "DB", Value: "nil", Want: "a database"}
	}
	if strings.TrimSpace(cfg.Query) == "" {
		return nil, &drm.InputError{
			Field: "Query",
			Value: cfg.Query,
			Want:  `a query, such as SELECT id, url FROM feeds`,
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Timeout < time.Millisecond || cfg.Timeout > 24*time.Hour {
		return nil, &drm.InputError{
			Field: "Timeout",
			Value: cfg.Timeout.String(),
			Want:  "1ms to 24h, or 0 for the default",
		}
	}
	if cfg.MaxRows == 0 {
		cfg.MaxRows = DefaultMaxRows
	}
	if cfg.MaxRows < 1 {
		return nil, &drm.InputError{
			Field: "MaxRows",
			Value: strconv.Itoa(cfg.MaxRows),
			Want:  "1 or more, or 0 for the default",
		}
	}
	cfg.Args = slices.Clone(cfg.Args)
	return &SQL{cfg: cfg, secrets: secretArgs(cfg.Args)}, nil
}

// secretArgs are the texts among the arguments.
func secretArgs(args []any) secrets.Set {
	var texts []string
	for _, arg := range args {
		if named, ok := arg.(sql.NamedArg); ok {
			arg = named.Value
		}
		var text string
		switch v := arg.(type) {
		case string:
			text = v
		case []byte:
			text = string(v)
		}
		texts = append(texts, text)
	}
	return secrets.New(texts, redacted)
}

// Setup does nothing. In particular it does not connect: most members never ask.
func (s *SQL) Setup(context.Context, drm.API) error { return nil }

// TearDown does nothing: the database is the caller's own.
func (s *SQL) TearDown(context.Context) error { return nil }

// String says no more than that it is a query, which may have secrets.
func (s *SQL) String() string { return "an SQL query" }

// Fetch runs the query. Rows that are no resources are told of by a *drm.BadItemsError, with a *RowError for each,
// beside the good ones. Its other errors are a *drm.InputError for columns or a number of rows that will not do, and
// those of the database and of ctx. No error of DRM's tells a value of a row, the id's aside; one of the database says
// what the database makes it say.
func (s *SQL) Fetch(ctx context.Context) ([]drm.Resource, error) {
	asking, cancel := context.WithTimeoutCause(
		ctx,
		s.cfg.Timeout,
		fmt.Errorf("no full answer within %s", s.cfg.Timeout),
	)
	defer cancel()
	resources, err := s.fetch(asking)
	if err == nil {
		return resources, nil
	}
	var row *RowError // also one of some rows only
	var input *drm.InputError
	if !errors.As(err, &row) && !errors.As(err, &input) {
		err = scrubError(err, s.secrets)
		if cause := context.Cause(asking); cause != nil && !errors.Is(err, cause) { // drivers tell it in many ways
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return resources, fmt.Errorf("querying the database: %w", err)
}

func (s *SQL) fetch(ctx context.Context) ([]drm.Resource, error) {
	rows, err := s.cfg.DB.QueryContext(ctx, s.cfg.Query, s.cfg.Args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // what matters is in Err
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	reader, err := newRowReader(names, s.cfg.NumberIDs)
	if err != nil {
		return nil, err
	}
	c := newCollector(DecodeOptions{})
	c.rows = true
	for n := 1; rows.Next(); n++ {
		if n > s.cfg.MaxRows {
			return nil, &drm.InputError{
				Field: "rows",
				Value: strconv.Itoa(n) + " or more",
				Want:  fmt.Sprintf("at most %d (MaxRows)", s.cfg.MaxRows),
			}
		}
		if err := rows.Scan(reader.targets...); err != nil {
			return nil, &RowError{Row: n, Err: scrubError(err, s.secrets)}
		}
		r, column, err := reader.resource()
		if err != nil {
			c.reject(&RowError{Row: n, Column: column, Err: err}, reader.ids())
			continue
		}
		c.addResource(r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return c.resources, c.bad.OrNil()
}
