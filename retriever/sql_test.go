package retriever_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// answers is a database that gives the same answer to every query. A test in examples/sqlite uses a real one.
type answers struct {
	columns []string
	rows    [][]driver.Value
	err     error         // the error of the query
	rowErr  error         // the error after the last row
	silent  chan struct{} // if not nil, a query waits until it is closed or the context ends

	got []driver.NamedValue // the arguments
}

func (a *answers) Connect(context.Context) (driver.Conn, error) { return &answersConn{a}, nil }
func (a *answers) Driver() driver.Driver                        { return nil }

type answersConn struct{ a *answers }

func (c *answersConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not needed") }
func (c *answersConn) Begin() (driver.Tx, error)           { return nil, errors.New("not needed") }
func (c *answersConn) Close() error                        { return nil }

func (c *answersConn) QueryContext(ctx context.Context, _ string, args []driver.NamedValue) (driver.Rows, error) {
	c.a.got = args
	if c.a.silent != nil {
		select {
		case <-c.a.silent:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if c.a.err != nil {
		return nil, c.a.err
	}
	return &answersRows{c.a, 0}, nil
}

type answersRows struct {
	a    *answers
	next int
}

func (r *answersRows) Columns() []string { return r.a.columns }
func (r *answersRows) Close() error      { return nil }

func (r *answersRows) Next(row []driver.Value) error {
	if r.next == len(r.a.rows) {
		if r.a.rowErr != nil {
			return r.a.rowErr
		}
		return io.EOF
	}
	copy(row, r.a.rows[r.next])
	r.next++
	return nil
}

// query makes a source that asks a database.
func query(t *testing.T, a *answers, change ...func(*retriever.SQLConfig)) *retriever.SQL {
	t.Helper()
	db := sql.OpenDB(a)
	t.Cleanup(func() { _ = db.Close() })
	cfg := retriever.SQLConfig{DB: db, Query: "SELECT …"}
	for _, c := range change {
		c(&cfg)
	}
	s, err := retriever.NewSQL(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Setup(t.Context(), nil), s.TearDown(t.Context())); err != nil {
		t.Error(err)
	}
	return s
}

func numberIDs(c *retriever.SQLConfig) { c.NumberIDs = true }

// row is an answer of one row, with these columns.
func row(columns string, values ...driver.Value) *answers {
	return &answers{columns: strings.Fields(columns), rows: [][]driver.Value{values}}
}

func TestNewSQLNamesTheBadField(t *testing.T) {
	db := sql.OpenDB(&answers{})
	defer func() { _ = db.Close() }()
	for _, c := range []struct {
		field string
		cfg   retriever.SQLConfig
	}{
		{"", retriever.SQLConfig{DB: db, Query: "x", Timeout: time.Hour, MaxRows: 1}},
		{"DB", retriever.SQLConfig{Query: "x"}},
		{"Query", retriever.SQLConfig{DB: db, Query: " \n"}},
		{"Timeout", retriever.SQLConfig{DB: db, Query: "x", Timeout: -1}},
		{"Timeout", retriever.SQLConfig{DB: db, Query: "x", Timeout: 25 * time.Hour}},
		{"MaxRows", retriever.SQLConfig{DB: db, Query: "x", MaxRows: -1}},
	} {
		s, err := retriever.NewSQL(c.cfg)
		var input *drm.InputError
		if c.field == "" && err != nil ||
			c.field != "" && (s != nil || !errors.As(err, &input) || input.Field != c.field) {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
}

func TestSQLMakesAnObjectOfARow(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600))
	for _, c := range []struct {
		name    string
		answer  *answers
		numbers bool
		want    string
	}{
		{"the id alone", row("id", "a"), false, `{"id":"a"}`},
		{"an id of bytes", row("id", []byte("a")), false, `{"id":"a"}`},
		{"fields in their order", row("z id a", "1", "x", "2"), false, `{"z":"1","id":"x","a":"2"}`},
		{"text", row("id url", "x", `wss://é/?a=<1>&b="2"`), false, `{"id":"x","url":"wss://é/?a=<1>&b=\"2\""}`},
		{
			"numbers", row("id i f g", "x", int64(math.MinInt64), 1.5, 3.0),
			false, `{"id":"x","i":-9223372036854775808,"f":1.5,"g":3}`,
		},
		{"booleans", row("id yes no", "x", true, false), false, `{"id":"x","yes":true,"no":false}`},
		{"null", row("id n", "x", nil), false, `{"id":"x","n":null}`},
		{"a time", row("id t", "x", at), false, `{"id":"x","t":"2026-01-02T03:04:05.678+01:00"}`},
		{"bytes", row("id b", "x", []byte("1.50")), false, `{"id":"x","b":"1.50"}`},
		{"JSON that is not data", row("id json", "x", `{"a":1}`), false, `{"id":"x","json":"{\"a\":1}"}`},
		{"a number id", row("id n", int64(-7), int64(7)), true, `{"id":"-7","n":7}`},
		{"a text id where numbers would do", row("id", "7"), true, `{"id":"7"}`},
		{"data", row("data id", `{ "id" : "x", "a" : [1, 2] }`, "x"), false, `{"id":"x","a":[1,2]}`},
		{"data of bytes without the id", row("id data", "x", []byte(`{"a": 1}`)), false, `{"id":"x","a":1}`},
		{"data that are null", row("id data", "x", nil), false, `{"id":"x"}`},
		{"a number id in the data", row("id data", int64(7), `{"id":7,"a":1}`), true, `{"id":"7","a":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := query(t, c.answer, func(cfg *retriever.SQLConfig) { cfg.NumberIDs = c.numbers })
			got, err := s.Fetch(t.Context())
			if err != nil || len(got) != 1 || string(got[0].Data) != c.want {
				t.Fatalf("got %s, %v, want %s", got, err, c.want)
			}
			if err := got[0].Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSQLReadsAllRowsAndNoneIsFine(t *testing.T) {
	a := &answers{columns: []string{"id"}}
	s := query(t, a, func(c *retriever.SQLConfig) { c.Args, c.MaxRows = []any{"x", 7, sql.Named("n", true)}, 2 })
	if got, err := s.Fetch(t.Context()); err != nil || got == nil || len(got) != 0 {
		t.Errorf("no rows: %v, %v", got, err)
	}
	a.rows = [][]driver.Value{{"b"}, {"a"}}
	got, err := s.Fetch(t.Context())
	if err != nil || len(got) != 2 || got[0].ID != "b" || got[1].ID != "a" {
		t.Errorf("two rows: %v, %v", got, err)
	}
	if len(a.got) != 3 || a.got[0].Value != "x" || a.got[1].Value != int64(7) || a.got[2].Name != "n" {
		t.Errorf("the query got the arguments %v", a.got)
	}
}

func TestSQLErrorsNameRowAndColumn(t *testing.T) {
	rows := func(columns string, rows ...[]driver.Value) *answers {
		return &answers{columns: strings.Fields(columns), rows: rows}
	}
	for _, c := range []struct {
		name   string
		answer *answers
		want   []string
	}{
		{"a null id", rows("id", []driver.Value{"a"}, []driver.Value{nil}), []string{"row 2", `"id"`, "NULL"}},
		{"a number id", row("id", int64(7)), []string{"row 1", `"id"`, `"7"`, "NumberIDs"}},
		{"an id that is a fraction", row("id", 1.5), []string{"row 1", `"id"`, "float64"}},
		{"an id that is a time", row("id", time.Time{}), []string{"row 1", `"id"`, "time.Time"}},
		{"an empty id", row("id", ""), []string{"row 1", `"id"`, "empty"}},
		{"a control character", row("id", "a\x00"), []string{"row 1", `"id"`, "control"}},
		{"a long id", row("id", strings.Repeat("x", 5000)), []string{"row 1", `"id"`, "xxx…"}},
		{
			"an id twice",
			rows("id n", []driver.Value{"a", 1.0}, []driver.Value{"b", 1.0}, []driver.Value{"a", 2.0}),
			[]string{"row 3", `"a"`, "row 1", "once"},
		},
		{"a value that is no text", row("id v", "a", []byte{0xff}), []string{"row 1", `"v"`, "UTF-8"}},
		{"a value that is no number", row("id v", "a", math.NaN()), []string{"row 1", `"v"`, "NaN"}},
		{"data that are no object", row("id data", "a", "[1]"), []string{"row 1", `"data"`, "an array"}},
		{"data that are no JSON", row("id data", "a", "{oops"), []string{"row 1", `"data"`}},
		{"data that are empty", row("id data", "a", ""), []string{"row 1", `"data"`, "nothing"}},
		{"data that are a number", row("id data", "a", int64(1)), []string{"row 1", `"data"`, "int64"}},
		{"data of another id", row("id data", "a", `{"id":"b"}`), []string{"row 1", `"data"`, `"a"`, `"b"`}},
		{"no id", row("name data", "a", "{}"), []string{"name, data", `"id"`, "AS"}},
		{"data beside others", row("id data name", "a", "{}", "b"), []string{"id, data, name", `"data"`}},
		{"a column twice", row("id n n", "a", 1.0, 1.0), []string{"id, n, n", "AS"}},
		{"a column without a name", &answers{columns: []string{"id", ""}}, []string{"id, ", "AS"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := query(t, c.answer).Fetch(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want it to say %s", err, want)
				}
			}
			if len(err.Error()) > 400 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			var of *retriever.RowError
			var input *drm.InputError
			var twice *retriever.DuplicateError
			if strings.Contains(c.want[0], "row ") && !errors.As(err, &of) ||
				!errors.As(err, &input) && !errors.As(err, &twice) {
				t.Errorf("%#v", err)
			}
		})
	}
	_, err := query(t, rows("id", []driver.Value{int64(1)}, []driver.Value{"1"}), numberIDs).Fetch(t.Context())
	var twice *retriever.DuplicateError
	if !errors.As(err, &twice) || *twice != (retriever.DuplicateError{ID: "1", First: 1, Second: 2}) {
		t.Errorf("1 and \"1\": %v", err)
	}
}

func TestSQLRefusesTooManyRows(t *testing.T) {
	a := &answers{columns: []string{"id"}, rows: [][]driver.Value{{"a"}, {"b"}, {"c"}}}
	_, err := query(t, a, func(c *retriever.SQLConfig) { c.MaxRows = 2 }).Fetch(t.Context())
	var input *drm.InputError
	if !errors.As(err, &input) || !strings.Contains(err.Error(), "at most 2 (MaxRows)") {
		t.Error(err)
	}
}

func TestSQLUsesNoPartOfAnAnswerThatBreaksOff(t *testing.T) {
	broken := errors.New("connection lost")
	a := &answers{columns: []string{"id"}, rows: [][]driver.Value{{"a"}}, rowErr: broken}
	if got, err := query(t, a).Fetch(t.Context()); got != nil || !errors.Is(err, broken) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSQLGivesUpInTime(t *testing.T) {
	a := &answers{silent: make(chan struct{})}
	s := query(t, a, func(c *retriever.SQLConfig) { c.Timeout = 20 * time.Millisecond })
	_, err := s.Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no full answer within 20ms") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := query(t, a).Fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSQLErrorsTellNoSecret(t *testing.T) {
	a := &answers{
		err: errors.New(`near "hush-1": postgres://me:hush-2@db/x?password=hush-3: $1 is hush-1 $2 is hush-4`),
	}
	s := query(t, a, func(c *retriever.SQLConfig) { c.Args = []any{"hush-1", sql.Named("x", []byte("hush-4")), 1} })
	_, err := s.Fetch(t.Context())
	if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "near") {
		t.Error(err)
	}
	if strings.Contains(s.String(), "SELECT") {
		t.Errorf("its own name: %s", s)
	}
}
