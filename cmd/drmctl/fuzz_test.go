package main

import (
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

func FuzzHeaders(f *testing.F) {
	f.Add("Authorization: Bearer a:b")
	f.Add("a: 1\nb: 2\r\n\na: 3,4")
	f.Fuzz(func(t *testing.T, text string) {
		v := &headers{h: make(http.Header)}
		if err := v.Set(text); err != nil { // package cli would show the value, which may be a secret
			t.Fatal(err)
		}
		if v.bad {
			return
		}
		// Headers that were understood mean the same when they are given again, one a line.
		var lines strings.Builder
		for name, values := range v.h {
			for _, value := range values {
				lines.WriteString(name + ": " + value + "\n")
				if shown := v.String(); len(value) > 0 && strings.Contains(shown, ": ") {
					t.Fatalf("%q is shown as %q", text, shown)
				}
			}
		}
		w := &headers{h: make(http.Header)}
		if err := w.Set(lines.String()); err != nil || w.bad || !reflect.DeepEqual(w.h, v.h) {
			t.Fatalf("%q: %q, then %q, %v", text, v.h, w.h, err)
		}
	})
}

func FuzzQuota(f *testing.F) {
	for _, seed := range []string{"2GiB", "500MB", "1", "-1", "1e9", "9223372036854775808", "0.1B"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := quotaBytes(text)
		if (err == nil) != (n > 0) || n < 0 {
			t.Fatalf("%q: %d, %v", text, n, err)
		}
		if err == nil {
			// quotaBytes counts in floats, so it may be off by a little.
			if again, err := quotaBytes(strconv.FormatInt(n, 10)); err != nil || again-n > 1024 || n-again > 1024 {
				t.Fatalf("%q: %d, then %d, %v", text, n, again, err)
			}
		}
	})
}

func FuzzAutoCompaction(f *testing.F) {
	for _, seed := range []string{"5m", "off", "0", "1000", "1s", "999ms", "-5m", "1h1ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := autoCompaction(text)
		if err != nil {
			if exitCode(err) != exitUsage {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		d, duration := time.ParseDuration(got)
		n, number := strconv.ParseInt(got, 10, 64)
		if off := got == ""; !off && (duration != nil || d < time.Second) && (number != nil || n <= 0) {
			t.Fatalf("%q: %q", text, got)
		}
	})
}

// Whatever --id and --data are given, they make a valid resource or a usage error.
func FuzzResourceOf(f *testing.F) {
	f.Add("x", "", true)
	f.Add("", `{"id":"y","a":1}`, false)
	f.Add("x", `{"a":1}`, true)
	f.Add("x", "-", true)
	f.Fuzz(func(t *testing.T, id, data string, withID bool) {
		if strings.HasPrefix(data, "@") { // would read any file of the machine
			return
		}
		var r drm.Resource
		app := newApp(strings.NewReader(id), io.Discard, io.Discard)
		app.Commands = []*cli.Command{{
			Name: "x", Flags: []cli.Flag{&cli.StringFlag{Name: flagID}, &cli.StringFlag{Name: flagData}},
			Action: func(c *cli.Context) (err error) { r, err = resourceOf(c); return err },
		}}
		args := []string{"drmctl", "x", "--" + flagData + "=" + data}
		if withID {
			args = append(args, "--"+flagID+"="+id)
		}
		if err := app.RunContext(t.Context(), args); err != nil {
			if exitCode(err) != exitUsage {
				t.Fatalf("%q %q: %v", id, data, err)
			}
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("%q %q: %v", id, data, err)
		}
		if again, err := drm.ParseResource(r.Object()); err != nil || again.ID != r.ID {
			t.Fatalf("%q %q: %+v, then %+v, %v", id, data, r, again, err)
		}
	})
}
