package handler_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestPrinterPrintsOneLinePerCall(t *testing.T) {
	var out bytes.Buffer
	p := handler.NewPrinter(&out)
	ctx, boom := t.Context(), errors.New("boom")
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a", Data: json.RawMessage(`{"id":"a","x":{"y":"<&>"}}`)}, 9, nil)
	if err := errors.Join(p.Handle(ctx, c), p.Update(ctx, c), p.Terminate(ctx, c)); err != nil {
		t.Fatal(err)
	}
	p.HandleFailed(ctx, c, boom)
	p.TerminateFailed(ctx, c, boom)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	const same = `"app":"app","member":"m1","token":9,"resource":{"id":"a","x":{"y":"<&>"}}`
	for i, want := range []string{
		`"action":"handle",` + same + `,"error":""}`,
		`"action":"update",` + same + `,"error":""}`,
		`"action":"terminate",` + same + `,"error":""}`,
		`"action":"handle_failed",` + same + `,"error":"boom"}`,
		`"action":"terminate_failed",` + same + `,"error":"boom"}`,
	} {
		var line struct {
			Time string `json:"time"`
		}
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
			t.Fatal(err)
		}
		if when, err := time.Parse(time.RFC3339, line.Time); err != nil || when.Location() != time.UTC {
			t.Errorf("time %s: %v", line.Time, err)
		}
		if !strings.HasPrefix(lines[i], `{"time":"`) || !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %s\nwant …%s", lines[i], want)
		}
	}
	if len(lines) != 5 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestPrinterKeepsLinesWhole(t *testing.T) {
	var out bytes.Buffer // the race detector notices if the Printer does not guard it
	p := handler.NewPrinter(&out)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 50 {
				_ = p.Handle(t.Context(), claim("a", 1))
			}
		})
	}
	calls.Wait()
	if n := strings.Count(out.String(), "\n"); n != 400 {
		t.Errorf("%d lines", n)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("pipe is broken") }

func TestPrinterThatCannotPrintFails(t *testing.T) {
	err := handler.NewPrinter(brokenWriter{}).Handle(t.Context(), claim("a", 3))
	if err == nil || !strings.Contains(err.Error(), "pipe is broken") || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v", err)
	}
	err = handler.NewPrinter(&bytes.Buffer{}).
		Handle(t.Context(), drm.NewClaim("a", "m", drm.Resource{ID: "a", Data: []byte("{")}, 1, nil))
	if err == nil {
		t.Error("data that are no JSON were printed")
	}
}
