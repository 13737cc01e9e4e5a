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

// DefaultMaxRows is the default limit of rows in the answer of a query.
const DefaultMaxRows = 1_000_000

// The columns that have a meaning.
const (
	columnID   = "id"
	columnData = "data"
)

// SQLConfig configures NewSQL, which refuses an invalid value with a *drm.InputError. DB and Query are required. Zero
// values of the other fields stand for their defaults.
type SQLConfig struct {
	// DB is the caller's own database, with any driver. DRM never closes it.
	DB *sql.DB
	// Query returns one row per resource. Its column "id" is the resource's id. If it has a column "data", the text of
	// that is the resource's JSON object (null stands for an object that has only the id), and there may be no other
	// column. Otherwise all columns become fields of the object, under their own names: texts become strings, and times
	// strings as in RFC 3339; numbers, booleans and null stay what they are. AS gives a column another name.
	Query string
	// Args are the arguments of the query. Texts of 4 bytes and more among them count as secrets: no error of the
	// database shows them.
	Args []any

	// Timeout bounds the query, up to its last row; so does the context of Fetch. Raised, a slow database gets more
	// time; lowered, a dead one is given up sooner. Default 30 s; 1 ms to 24 h.
	Timeout time.Duration
	// NumberIDs accepts ids that are whole numbers, and turns them into strings, also in a "data" object. Default
	// false, for the same reason as in DecodeOptions.
	NumberIDs bool
	// MaxRows is how many rows the answer may have; one more is an error. Raised, a larger list is accepted, and a
	// broken query can make the coordinator use more memory. Default 1,000,000; at least 1.
	MaxRows int
}

// SQL is a source that is a database query. Each Fetch runs the query. It is safe for use from any goroutine.
type SQL struct {
	cfg     SQLConfig
	secrets secrets.Set
}

var _ drm.Retriever = (*SQL)(nil)

// NewSQL checks the configuration and makes a source of it. It does not use the database yet. The error is a
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

// secretArgs returns the texts among the arguments, as secrets.
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

// Setup does nothing. It does not connect to the database, because most members never coordinate, and so never fetch.
func (s *SQL) Setup(context.Context, drm.API) error { return nil }

// TearDown does nothing: the database is the caller's own.
func (s *SQL) TearDown(context.Context) error { return nil }

// String returns "an SQL query". The query itself may have secrets.
func (s *SQL) String() string { return "an SQL query" }

// Fetch runs the query. If some rows are not valid resources, it returns the good ones together with a
// *drm.BadItemsError, which has a *RowError for each bad row. Its other errors are a *drm.InputError for unusable
// columns or too many rows, and those of the database and of ctx. DRM's own errors show no value of a row but its id;
// an error of the database may show any.
func (s *SQL) Fetch(ctx context.Context) ([]drm.Resource, error) {
	late := fmt.Errorf("no full answer within %s", s.cfg.Timeout)
	asking, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, late)
	defer cancel()
	resources, err := s.fetch(asking)
	if err == nil {
		return resources, nil
	}
	var row *RowError // about one row, or inside a *drm.BadItemsError
	var input *drm.InputError
	if !errors.As(err, &row) && !errors.As(err, &input) {
		err = scrubError(err, s.secrets)
		if cause := context.Cause(asking); cause != nil && !errors.Is(err, cause) { // drivers report it in many ways
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
	defer func() { _ = rows.Close() }() // rows.Err has every error that matters
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
