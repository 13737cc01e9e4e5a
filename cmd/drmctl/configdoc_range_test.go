package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/configdoc"
	"github.com/distributed-resource-manager/drm/retriever"
)

// option is a field of a source's or handler's configuration that has a number for its default and a range.
type option struct {
	value   string // the default according to the package's constant, as the table writes it
	span    string // the range, as the table writes it
	edges   []int64
	outside []int64
	try     func(n int64) error // calls a constructor with n in the field
}

const (
	ms  = int64(time.Millisecond)
	day = int64(24 * time.Hour)
)

func duration(d time.Duration) string { return d.String() }
func count(n int) string              { return strconv.Itoa(n) }
func mib(n int64) string              { return fmt.Sprintf("%d MiB", n>>20) }

// options returns all these fields by their names in the table.
func options() map[string]option {
	const aDay, unsigned, positive = "1ms to 24h", "not negative", "at least 1"
	http := func(set func(*retriever.HTTPConfig, int64)) func(int64) error {
		return func(n int64) error {
			cfg := retriever.HTTPConfig{URL: "http://x"}
			set(&cfg, n)
			_, err := retriever.NewHTTP(cfg)
			return err
		}
	}
	sqlWith := func(set func(*retriever.SQLConfig, int64)) func(int64) error {
		return func(n int64) error {
			cfg := retriever.SQLConfig{DB: &sql.DB{}, Query: "SELECT"}
			set(&cfg, n)
			_, err := retriever.NewSQL(cfg)
			return err
		}
	}
	exec := func(set func(*handler.ExecConfig, int64)) func(int64) error {
		return func(n int64) error {
			cfg := handler.ExecConfig{Command: []string{"x"}}
			set(&cfg, n)
			_, err := handler.NewExec(cfg)
			return err
		}
	}
	loop := func(set func(*handler.LoopConfig, int64)) func(int64) error {
		return func(n int64) error {
			cfg := handler.LoopConfig{}
			set(&cfg, n)
			_, err := handler.NewLoop(func(context.Context, drm.Claim) error { return nil }, cfg)
			return err
		}
	}
	retry := func(set func(*handler.RetryConfig, int64)) func(int64) error {
		return func(n int64) error {
			cfg := handler.RetryConfig{}
			set(&cfg, n)
			_, err := handler.Retry(cfg)
			return err
		}
	}
	return map[string]option{
		"HTTPConfig.Timeout": {
			duration(retriever.DefaultTimeout), unsigned,
			[]int64{0, 1},
			[]int64{-1},
			http(func(c *retriever.HTTPConfig, n int64) { c.Timeout = time.Duration(n) }),
		},
		"HTTPConfig.Attempts": {
			count(retriever.DefaultAttempts), "1 to 100",
			[]int64{1, 100},
			[]int64{-1, 101},
			http(func(c *retriever.HTTPConfig, n int64) { c.Attempts = int(n) }),
		},
		"HTTPConfig.RetryWait": {
			duration(retriever.DefaultRetryWait), "1ms to RetryWaitMax",
			[]int64{ms, 1000 * ms},
			[]int64{-1, ms - 1, 1000*ms + 1},
			http(func(c *retriever.HTTPConfig, n int64) {
				c.RetryWait, c.RetryWaitMax = time.Duration(n), time.Second
			}),
		},
		"HTTPConfig.RetryWaitMax": {
			duration(retriever.DefaultRetryWaitMax), "RetryWait to 1h",
			[]int64{2 * ms, 3600 * 1000 * ms},
			[]int64{-1, 2*ms - 1, 3600*1000*ms + 1},
			http(func(c *retriever.HTTPConfig, n int64) {
				c.RetryWait, c.RetryWaitMax = 2*time.Millisecond, time.Duration(n)
			}),
		},
		"HTTPConfig.MaxBytes": {
			mib(retriever.DefaultMaxBytes), unsigned,
			[]int64{0, 1},
			[]int64{-1},
			http(func(c *retriever.HTTPConfig, n int64) { c.MaxBytes = n }),
		},
		"HTTPConfig.MaxPages": {
			count(retriever.DefaultMaxPages), positive,
			[]int64{1},
			[]int64{-1},
			http(func(c *retriever.HTTPConfig, n int64) { c.MaxPages = int(n) }),
		},
		"FileConfig.MaxBytes": {
			mib(retriever.DefaultMaxBytes), unsigned,
			[]int64{0, 1},
			[]int64{-1},
			func(n int64) error { _, err := retriever.NewFile("x", retriever.FileConfig{MaxBytes: n}); return err },
		},
		"DecodeOptions.MaxBytes": {
			mib(retriever.DefaultMaxBytes), unsigned,
			[]int64{0, 100},
			[]int64{-1},
			func(n int64) error {
				_, err := retriever.Decode(strings.NewReader(`{"data":[]}`), retriever.DecodeOptions{MaxBytes: n})
				return err
			},
		},
		"SQLConfig.Timeout": {
			duration(retriever.DefaultTimeout), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			sqlWith(func(c *retriever.SQLConfig, n int64) { c.Timeout = time.Duration(n) }),
		},
		"SQLConfig.MaxRows": {
			count(retriever.DefaultMaxRows), positive,
			[]int64{1},
			[]int64{-1},
			sqlWith(func(c *retriever.SQLConfig, n int64) { c.MaxRows = int(n) }),
		},
		"WebhookConfig.Timeout": {
			duration(handler.DefaultWebhookTimeout), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			func(n int64) error {
				_, err := handler.NewWebhook(handler.WebhookConfig{URL: "http://x", Timeout: time.Duration(n)})
				return err
			},
		},
		"LoopConfig.Backoff": {
			duration(handler.DefaultBackoff), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			loop(func(c *handler.LoopConfig, n int64) { c.Backoff = time.Duration(n) }),
		},
		"LoopConfig.BackoffMax": {
			duration(handler.DefaultBackoffMax), "Backoff to 24h",
			[]int64{2 * ms, day},
			[]int64{-1, 2*ms - 1, day + 1},
			loop(func(c *handler.LoopConfig, n int64) {
				c.Backoff, c.BackoffMax = 2*time.Millisecond, time.Duration(n)
			}),
		},
		"RetryConfig.Attempts": {
			count(handler.DefaultRetryAttempts), "2 to 1000",
			[]int64{2, 1000},
			[]int64{-1, 1, 1001},
			retry(func(c *handler.RetryConfig, n int64) { c.Attempts = int(n) }),
		},
		"RetryConfig.Backoff": {
			duration(handler.DefaultBackoff), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			retry(func(c *handler.RetryConfig, n int64) { c.Backoff = time.Duration(n) }),
		},
		"RetryConfig.BackoffMax": {
			duration(handler.DefaultBackoffMax), "Backoff to 24h",
			[]int64{2 * ms, day},
			[]int64{-1, 2*ms - 1, day + 1},
			retry(func(c *handler.RetryConfig, n int64) {
				c.Backoff, c.BackoffMax = 2*time.Millisecond, time.Duration(n)
			}),
		},
		"ExecConfig.Grace": {
			duration(handler.DefaultGrace), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			exec(func(c *handler.ExecConfig, n int64) { c.Grace = time.Duration(n) }),
		},
		"ExecConfig.ReadyTimeout": {
			duration(handler.DefaultReadyTimeout), aDay + ", or Forever",
			[]int64{ms, day, int64(drm.Forever)},
			[]int64{-1, ms - 1, day + 1},
			exec(func(c *handler.ExecConfig, n int64) { c.ReadyTimeout = time.Duration(n) }),
		},
		"ExecConfig.StoppedTimeout": {
			duration(handler.DefaultStoppedTimeout), aDay + ", or Forever",
			[]int64{ms, day, int64(drm.Forever)},
			[]int64{-1, ms - 1, day + 1},
			exec(func(c *handler.ExecConfig, n int64) { c.StoppedTimeout = time.Duration(n) }),
		},
		"ExecConfig.Backoff": {
			duration(handler.DefaultBackoff), aDay,
			[]int64{ms, day},
			[]int64{-1, ms - 1, day + 1},
			exec(func(c *handler.ExecConfig, n int64) { c.Backoff = time.Duration(n) }),
		},
		"ExecConfig.BackoffMax": {
			duration(handler.DefaultBackoffMax), "Backoff to 24h",
			[]int64{2 * ms, day},
			[]int64{-1, 2*ms - 1, day + 1},
			exec(func(c *handler.ExecConfig, n int64) {
				c.Backoff, c.BackoffMax = 2*time.Millisecond, time.Duration(n)
			}),
		},
	}
}

// TestConfigDocHasTheDefaultsAndRangesOfSourcesAndHandlers compares each number of the table with the package: the
// default with a constant, the range with a constructor.
func TestConfigDocHasTheDefaultsAndRangesOfSourcesAndHandlers(t *testing.T) {
	rows, err := configdoc.Read("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	all := options()
	numeric := regexp.MustCompile("^`?[0-9]")
	for _, row := range rows {
		for _, field := range row.Fields {
			owner, _, dotted := strings.Cut(field, ".")
			o, known := all[field]
			switch {
			case !dotted || owner == "EtcdConfig" || owner == "ClientConfig" ||
				!known && !numeric.MatchString(row.Default):
				continue // the root has a test for those
			case !known:
				t.Errorf("%s has the default %s, and nothing checks it", field, row.Default)
				continue
			}
			delete(all, field)
			if row.Default != "`"+o.value+"`" {
				t.Errorf("%s: the table has the default %s, the code %s", field, row.Default, o.value)
			}
			if row.Range != o.span {
				t.Errorf("%s: the table has the range %q, the test %q", field, row.Range, o.span)
			}
			if runtime.GOOS == "windows" && owner == "ExecConfig" {
				continue
			}
			for _, n := range o.edges {
				if err := o.try(n); err != nil {
					t.Errorf("%s: %d is refused: %v", field, n, err)
				}
			}
			_, name, _ := strings.Cut(field, ".")
			for _, n := range o.outside {
				var input *drm.InputError
				if err := o.try(n); !errors.As(err, &input) ||
					!strings.HasSuffix(input.Field, name) && !strings.HasPrefix(name, input.Field) {
					t.Errorf("%s: %d: %v, want an InputError that names it", field, n, err)
				}
			}
		}
	}
	for field := range all {
		t.Errorf("%s is not in docs/config.md", field)
	}
}

// TestFlagsHaveTheRangesOfTheConfigDoc gives each flag that has a range in the table a value just outside its range.
func TestFlagsHaveTheRangesOfTheConfigDoc(t *testing.T) {
	rows, err := configdoc.Read("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	span := regexp.MustCompile(`^(?:numbers from )?([0-9.a-z]+) to ([0-9.a-z]+)`)
	tried := 0
	for _, row := range rows {
		m := span.FindStringSubmatch(row.Range)
		if row.Range == "not negative" {
			m = []string{"", "0", ""}
		}
		if len(row.Flags) == 0 || m == nil {
			continue
		}
		for _, env := range row.Env {
			for _, bad := range outside(t, row, m[1], m[2]) {
				tried++
				args := append(commandOf(env, row.Flags[0]), row.Flags[0]+"="+bad)
				got := drmctl(t.Context(), args...)
				if got.code != exitUsage {
					t.Errorf("%q: exit code %d, want %d: %s", args, got.code, exitUsage, got.stderr)
				}
				checkOneLine(t, got.stderr, row.Flags[0])
			}
		}
	}
	if tried < 50 {
		t.Errorf("%d values were tried: the table has more", tried)
	}
}

// outside returns a value below a range, and one above it, where it has an upper end. A zero that means something else
// is not below it.
func outside(t *testing.T, row configdoc.Row, least, most string) []string {
	t.Helper()
	var values []string
	if from, err := time.ParseDuration(least); err == nil && (least != "0" || strings.Contains(row.Default, "s`")) {
		step := time.Nanosecond
		if strings.Contains(row.Range, "whole seconds") {
			step = time.Second
		}
		values = append(values, (from - step).String())
		if most != "" {
			to, err := time.ParseDuration(most)
			if err != nil {
				t.Fatalf("%q: %v", row.Range, err)
			}
			values = append(values, (to + step).String())
		}
		return values
	}
	from, err := strconv.ParseFloat(least, 64)
	to, err2 := strconv.ParseFloat(most, 64)
	if err := errors.Join(err, err2); err != nil {
		t.Fatalf("%q: %v", row.Range, err)
	}
	step := 1.0
	if strings.Contains(least+row.Default, ".") {
		step = 0.00001
	}
	below := from - step
	if said := strconv.FormatFloat(below, 'f', -1, 64); strings.HasPrefix(row.Default, "`"+said+"`") ||
		strings.Contains(row.Range, "; "+said+" of the flag is ") {
		below = from - 2*step
	}
	return []string{strconv.FormatFloat(below, 'f', -1, 64), strconv.FormatFloat(to+step, 'f', -1, 64)}
}

// commandOf returns a command line that is fine except for the flag that is to be added. env is the flag's variable.
func commandOf(env, flag string) []string {
	app := []string{"--app", "a", "--endpoints", "127.0.0.1:1"}
	for _, path := range commandPaths(testApp()) {
		c, words := path[len(path)-1], namesOf(path)
		command := commandEnv(strings.Join(words, "-"), strings.TrimPrefix(flag, "--"))[0]
		if env != command {
			continue
		}
		switch c.Name {
		case "allocate":
			return append(app, c.Name, "--id", "x")
		case "deallocate", "drain", "undrain", "cordon":
			return append(app, c.Name, "x")
		case "weight":
			return append(app, c.Name, "x", "3")
		case "pin", "move":
			return append(app, c.Name, "x", "y")
		case "reshard":
			return append(app, c.Name, "8")
		case "bench":
			return []string{c.Name, "claim"}
		case "demo", "simulate":
			return []string{c.Name}
		default:
			return append(app, words...)
		}
	}
	return append(slices.Clone(app), "agent", "--source-url", "http://127.0.0.1:1", "--handler-exec", "x")
}
