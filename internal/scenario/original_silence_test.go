package scenario_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/retriever"
)

// silentEnv, in the environment, makes the test binary a member without a logger, on the etcd that it names.
const silentEnv = "DRM_TEST_SILENT_MEMBER"

// The exit codes of that member.
const (
	silentStart = 10
	silentStop  = 11
)

// silentLife runs such a member until stdin ends. Its handler fails, and so does its source after the first answer.
// silentLife itself must not print anything.
func silentLife(endpoint string) int {
	var asked atomic.Bool
	m, err := drm.Start(context.Background(), drm.Config{
		App: "app", ID: "silent", Etcd: drm.EtcdConfig{Endpoints: []string{endpoint}, CommandTimeout: time.Second},
		LeaseTTL: 2 * time.Second, HandleBackoff: 50 * time.Millisecond, HandleBackoffMax: 50 * time.Millisecond,
		Shards: 8,
		Handler: handler.New(handler.Funcs{
			Handle:    func(context.Context, drm.Claim) error { panic("noise") },
			Terminate: func(context.Context, drm.Claim) error { return errors.New("noise") },
		}),
		Retriever: retriever.Func(func(context.Context) ([]drm.Resource, error) {
			if asked.Swap(true) {
				return nil, errors.New("noise")
			}
			return []drm.Resource{{ID: "x"}}, nil
		}),
		PollInterval: 100 * time.Millisecond, FetchRetryBudget: time.Millisecond,
	})
	if err != nil {
		return silentStart
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := m.Stop(context.Background()); err != nil {
		return silentStop
	}
	return 0
}

func TestOriginalWithoutALoggerThereIsSilence(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w, r := worldAt(t, server.Endpoint()), newRecorder(t)

	// The output of this process has everything that is printed in it, also by etcd's client.
	var stdout, stderr bytes.Buffer
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), silentEnv+"="+server.Endpoint())
	child.Stdout, child.Stderr = &stdout, &stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()

	c := w.client()
	noisy := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		s, err := c.Status(ctx)
		return err == nil && s.Members == 1 && s.Resources == 1 && s.Source.Error != "" &&
			s.Source.LastAttempt.After(s.Source.LastSuccess)
	}
	r.until("its source fails", noisy)
	var before drm.Assignment
	r.until("it has its claim", func() bool {
		before, err = c.Lookup(t.Context(), "x")
		return err == nil && before.Token > 0
	})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	away := time.NewTimer(3 * time.Second) // longer than the member's lease lasts
	defer away.Stop()
	<-away.C
	if server, err = embedded.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.until("it is a member again, with another claim", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		now, err := c.Lookup(ctx, "x")
		return err == nil && now.Token > before.Token && noisy()
	})
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the member ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the member does not end")
	}
	if stdout.Len()+stderr.Len() > 0 {
		t.Errorf("it said %q and %q", stdout.String(), stderr.String())
	}
}
