package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/retriever"
)

// drop runs source drop.
func drop(t *testing.T, endpoint, output string, args ...string) (stdout string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	app := newApp(strings.NewReader(""), &out, &errs)
	app.Commands = []*cli.Command{{Name: "source", Subcommands: []*cli.Command{sourceDropCommand()}}}
	argv := append([]string{"drmctl", "--app", "a", "--endpoints", endpoint, "-o", output, "source", "drop"}, args...)
	err := app.RunContext(t.Context(), argv)
	if err != nil {
		t.Logf("drmctl: %v", err)
	}
	return out.String(), exitCode(err)
}

func TestSourceDrop(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	if _, code := drop(t, server.Endpoint(), "json"); code != exitNotFound {
		t.Errorf("of no app: exit code %d, want %d", code, exitNotFound)
	}
	m, err := drm.Start(t.Context(), drm.Config{
		App: "a", ID: "m", Etcd: drm.EtcdConfig{Endpoints: []string{server.Endpoint()}}, Shards: 16,
		Retriever: retriever.Static(drm.Resource{ID: "x"}, drm.Resource{ID: "y"}),
		Handler:   handler.New(handler.Funcs{Handle: func(context.Context, drm.Claim) error { return nil }}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, code := drop(t, server.Endpoint(), "json"); code != exitFailed || out != "" {
		t.Errorf("while its member lives: %q, exit code %d, want %d", out, code, exitFailed)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		output, want string
		args         []string
	}{
		{"json", `{"removed":2,"dropped":false}` + "\n", []string{"--dry-run"}},
		{"table", "would drop the source, and remove 2 resources\n", []string{"--dry-run"}},
		{"json", `{"removed":2,"dropped":true}` + "\n", nil},
		{"table", "dropped the source; removed 0 resources\n", nil},
	} {
		if out, code := drop(t, server.Endpoint(), step.output, step.args...); code != exitFine || out != step.want {
			t.Errorf("%v: %q, exit code %d, want %q", step.args, out, code, step.want)
		}
	}
	if _, code := drop(t, server.Endpoint(), "json", "x"); code != exitUsage {
		t.Errorf("with an argument: exit code %d, want %d", code, exitUsage)
	}
}

func TestTheCommandsAboutTheSourceHaveShortNames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, command := range []string{"fetch", "forget-source"} {
		l.fails(exitNotFound, command) // there is no app
	}
	l.ok("allocate", "--id", "x", "--create")
	l.fails(exitFailed, "fetch") // no live member has a source
	l.prints(`{"removed":0,"dropped":false}`, "forget-source", "--dry-run")
	l.prints(`{"removed":0,"dropped":true}`, "forget-source")
}
