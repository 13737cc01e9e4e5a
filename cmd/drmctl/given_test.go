package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// withCommand runs a command line whose command does something else than it usually does. The tests that use it are not
// parallel: the library for command lines has flags that all apps share.
func withCommand(
	t *testing.T, command *cli.Command, do cli.ActionFunc, args ...string,
) (stdout, stderr string, _ error) {
	t.Helper()
	var out, errs bytes.Buffer
	app := newApp(strings.NewReader(""), &out, &errs)
	command.Action = do
	app.Commands = []*cli.Command{command}
	err := app.RunContext(t.Context(), append([]string{"drmctl"}, args...))
	return out.String(), errs.String(), err
}

// partly is a retrier that orders some resources to be tried again, and then fails.
type partly struct {
	retrier

	done    []string
	failure error
	bounded bool // one of its contexts had a deadline
}

func (p *partly) RetryFailed(ctx context.Context, _ drm.OrderOptions) ([]string, error) {
	return p.RetryQuarantined(ctx)
}

func (p *partly) RetryQuarantined(ctx context.Context) ([]string, error) {
	_, bounded := ctx.Deadline()
	p.bounded = p.bounded || bounded
	return p.done, p.failure
}

func TestRetryOfVeryManyTakesItsTimeAndSaysHowFarItCame(t *testing.T) {
	lost := fmt.Errorf("%w: gone", drm.ErrUnreachable)
	for _, all := range []string{"--all-failed", "--all-quarantined"} {
		p := &partly{done: []string{"x", "y"}, failure: lost}
		stdout, stderr, err := withCommand(t, retryCommand(), func(c *cli.Context) error {
			ctx, cancel := context.WithTimeout(c.Context, c.Duration(flagCommandTimeout))
			defer cancel()
			return retry(ctx, c, p, "", drm.OrderOptions{})
		}, "retry", all)
		if p.bounded {
			t.Errorf("%s: the command timeout bounds all orders together", all)
		}
		if !errors.Is(err, lost) || stdout != "" ||
			stderr != "drmctl: 2 resources retried before it failed; run it again for the rest\n" {
			t.Errorf("%s: stdout %q, stderr %q, error %v", all, stdout, stderr, err)
		}
	}
}

// idle is a retrier of a resource that needs no order.
type idle struct {
	retrier

	found drm.Assignment
}

func (idle) RetryWith(context.Context, string, drm.OrderOptions) (drm.State, error) { return "", nil }

func (i idle) Lookup(context.Context, string) (drm.Assignment, error) { return i.found, nil }

func TestRetryOfWhatNobodyHasSaysWhy(t *testing.T) {
	const nothing = "nothing to retry: x has neither failed nor is it quarantined"
	for _, tt := range []struct {
		found drm.Assignment
		want  string
	}{
		{drm.Assignment{State: drm.StateActive, Member: "m"}, nothing},
		{drm.Assignment{State: drm.StateUnassigned}, nothing},
		{
			drm.Assignment{State: drm.StateUnassigned, Error: "it is suspended by ann"},
			nothing + "; nobody has it: it is suspended by ann",
		},
	} {
		stdout, _, err := withCommand(t, retryCommand(), func(c *cli.Context) error {
			return retry(c.Context, c, idle{found: tt.found}, "x", drm.OrderOptions{})
		}, "retry", "x")
		if err != nil || stdout != tt.want+"\n" {
			t.Errorf("%+v: %q, error %v, want %q", tt.found, stdout, err, tt.want)
		}
	}
}

// silent is a lister that etcd does not answer.
type silent struct{}

func (silent) Orders(context.Context) ([]drm.OrderInfo, error) { return nil, drm.ErrUnreachable }

func TestAnOrderThatWasGivenDoesNotFailBecauseEtcdIsSilentAfterwards(t *testing.T) {
	_, stderr, err := withCommand(t, drainCommand(), func(c *cli.Context) error {
		noteAbsent(c.Context, c, silent{}, "m")
		return nil
	}, "drain", "m")
	want := "drmctl: the order was given; whether its member is there is not known: etcd unreachable\n"
	if err != nil || stderr != want {
		t.Errorf("stderr %q, error %v, want %q", stderr, err, want)
	}
}

func TestADrainWhoseAnswerWasLostSaysWhetherItStands(t *testing.T) {
	global := []string{"--endpoints", embeddedtest.Server(t).Endpoint(), "--app", "a", "--command-timeout", "30s"}
	if got := drmctl(t.Context(), append(global, "app", "create", "a")...); got.code != exitFine {
		t.Fatal(got.stderr)
	}
	for _, tt := range []struct {
		member string
		given  bool
		want   string
	}{
		{"m1", true, "the drain of m1 stands; drmctl undrain m1 takes it back"},
		{"m2", false, "no drain of m2 stands"},
	} {
		lossy := func(client *drm.Client, ctx context.Context, member string, o drm.OrderOptions) error {
			o.Force = true
			if tt.given {
				if err := client.DrainWith(ctx, member, o); err != nil {
					return err
				}
			}
			return fmt.Errorf("%w: the answer was lost", drm.ErrUnreachable)
		}
		_, _, err := withCommand(t, drainCommand(), func(c *cli.Context) error {
			return memberOrder(c, lossy, watchDrain, showDrained)
		}, append(global, "drain", "--absent", tt.member)...)
		if !errors.Is(err, drm.ErrUnreachable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.member, err, tt.want)
		}
	}
}

func TestAFullEtcdLeadsToAdvice(t *testing.T) {
	t.Parallel()
	for _, err := range []error{rpctypes.ErrNoSpace, rpctypes.ErrGRPCNoSpace} {
		if got := hintOf(fmt.Errorf("drain: %w", err)); !strings.Contains(got, "etcdctl alarm disarm") {
			t.Errorf("%v: the hint is %q", err, got)
		}
	}
}
