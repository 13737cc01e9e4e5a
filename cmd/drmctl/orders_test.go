package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/shard"
)

// says runs a command, which must end with that exit code and say certain things in one line on stderr.
func (l *lab) says(code int, want []string, args ...string) {
	l.t.Helper()
	got := drmctl(l.t.Context(), append(l.args(), args...)...)
	if got.code != code {
		l.t.Errorf("%s: %+v, want exit code %d", strings.Join(args, " "), got, code)
	}
	checkOneLine(l.t, got.stderr, want...)
}

// shardOf returns a resource that was allocated, its shard, and the member that has it, and another member.
func (l *lab) shardOf(id string) (n int, owner, other string) {
	l.t.Helper()
	a := get[assignmentJSON](l, "allocate", "--id", id, "--wait")
	return a.Shard, a.Member, map[string]string{"m1": "m2", "m2": "m1"}[a.Member]
}

func TestOrdersAboutMembersSayWhoWhyAndUntilWhen(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log")
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	l.ok("drain", "m1", "--reason", "a new kernel", "--by", "ann", "--for", "2h")
	l.ok("cordon", "m2", "--reason", "it is slow")
	l.says(exitNotFound, []string{`"host-9"`, "--absent"}, "cordon", "host-9")
	l.says(exitFine, []string{`no member "host-9" is live now`, "until uncordon"}, "cordon", "host-9", "--absent")
	list := get[[]memberJSON](l, "members")
	if len(list) != 3 {
		t.Fatalf("members: %+v", list)
	}
	gone, m1, m2 := list[0], list[1], list[2]
	if gone.State != "absent" || gone.Cordon != "ignored" || len(gone.Orders) != 1 || gone.Orders[0].Live {
		t.Errorf("one that is not there: %+v", gone)
	}
	if m1.State != "draining" || len(m1.Orders) != 1 || m1.Orders[0].By != "ann" ||
		m1.Orders[0].Why != "a new kernel" || m1.Orders[0].Until == nil || time.Until(*m1.Orders[0].Until) < time.Hour {
		t.Errorf("the drained one: %+v", m1)
	}
	if m2.State != "active" || m2.Cordon != "ignored" || len(m2.Orders) != 1 || m2.Orders[0].By != whoami() {
		t.Errorf("the cordoned one, with nobody else: %+v", m2)
	}
	for _, want := range []string{"drained by ann: a new kernel (since ", ", until ", "cordoned by ", ": it is slow"} {
		if table := l.ok("members"); !strings.Contains(table, want) {
			t.Errorf("members does not say %q: %s", want, table)
		}
	}
	for _, want := range []string{"drained", "m1 by ann: a new kernel", "m2 by ", "host-9 by ", "not there"} {
		if table := l.ok("status"); !strings.Contains(table, want) {
			t.Errorf("status does not say %q: %s", want, table)
		}
	}
	if s := get[statusJSON](l, "status"); len(s.Orders) != 3 || s.Orders[0].Kind != "cordon" || len(s.Drains) != 1 {
		t.Errorf("status: %+v", s)
	}
	l.says(exitFailed, []string{"start another member, or undrain one", "or --force"}, "drain", "m2")
	l.prints(`{"member":"m1","drained":false,"done":false}`, "undrain", "m1")
	l.prints(`{"member":"m2","cordoned":false}`, "uncordon", "m2")
	l.prints(`{"member":"host-9","cordoned":false}`, "uncordon", "host-9")
	l.fails(exitNotFound, "uncordon", "host-9")
	l.members(2)

	l.ok("drain", "m1", "--for", "1s")
	eventually(t, func() error {
		if m := get[[]memberJSON](l, "members"); m[0].State != "active" {
			return fmt.Errorf("%+v, want it active again", m[0])
		}
		return nil
	})

	l.ok("drain", "m1", "--at-once")
	l.ok("drain", "m2", "--force", "--wait", "--wait-timeout", "1m")
	for _, m := range get[[]memberJSON](l, "members") {
		if m.State != "draining" || m.Shards != 0 {
			t.Errorf("drained by force: %+v", m)
		}
	}
}

// An order that does not stand cannot be taken back, so no flag would help: the error says where to look.
func TestWhatTakesAnOrderBackSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "x", "--create", "--shards", "16")
	nothing := []string{`"m"`, "neither such a member nor such an order; drmctl members lists"}
	for _, args := range [][]string{{"undrain", "m"}, {"uncordon", "m"}, {"weight", "m", "--reset"}} {
		l.says(exitNotFound, nothing, args...)
	}
	l.says(exitNotFound, []string{"it is not pinned; drmctl pins lists"}, "unpin", "--shard", "3")
	l.says(exitNotFound, []string{`resource "y": not found`}, "retry", "y")
}

func TestAWeightIsOrderedShownAndReset(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log", "--weight", "20")
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	l.prints(`{"member":"m2","weight":1000}`, "weight", "m2", "1000", "--reason", "a large one", "--by", "ann")
	eventually(t, func() error {
		m := get[[]memberJSON](l, "members")
		if len(m[1].Blocks) != 1 || m[1].Ordered == nil || *m[1].Ordered != 1000 || m[1].Weight != 1 ||
			m[0].Weight != 20 {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	for _, want := range []string{"1000 (own 1)", "weight 1000 by ann: a large one (since "} {
		if table := l.ok("members"); !strings.Contains(table, want) {
			t.Errorf("members does not say %q: %s", want, table)
		}
	}
	for _, want := range []string{"weighed", "m2 to 1000 by ann: a large one"} {
		if table := l.ok("status"); !strings.Contains(table, want) {
			t.Errorf("status does not say %q: %s", want, table)
		}
	}
	l.says(exitNotFound, []string{`"host-9"`, "--absent"}, "weight", "host-9", "3")
	l.says(exitFine, []string{`no member "host-9" is live now`, "weight host-9 --reset"},
		"weight", "host-9", "3", "--absent")
	if m := get[[]memberJSON](l, "members"); m[0].ID != "host-9" || m[0].State != "absent" || *m[0].Ordered != 3 {
		t.Errorf("one that is not there: %+v", m[0])
	}
	l.prints(`{"member":"host-9","weight":null}`, "weight", "host-9", "--reset")
	l.ok("weight", "m1", "0", "--at-once")
	l.says(exitFailed, []string{"start another member", "or --force"}, "weight", "m2", "0")
	l.prints(`{"member":"m1","weight":null}`, "weight", "m1", "--reset")
	l.prints(`{"member":"m2","weight":null}`, "weight", "--reset", "m2")
	eventually(t, func() error {
		if m := get[[]memberJSON](l, "members"); len(m) != 2 || len(m[0].Slots) != 20 || len(m[1].Slots) != 1 {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
}

func TestAShardIsPinnedAndMovedOnlyAfterAYes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "early", "--create", "--shards", "16")
	l.agent("m1", "--allocate-only", "--handler-log")
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	n, owner, other := l.shardOf("x")
	number := fmt.Sprint(n)

	l.says(exitUsage, []string{"would move shard " + number, "1 resource", "--yes"}, "move", "x", other)
	l.says(exitUsage, []string{"would pin shard " + number, "1 resource", "--yes"}, "pin", "x", other)
	l.fails(exitNotFound, "move", "nothing", other)
	l.fails(exitNotFound, "pin", "nothing", other)
	l.says(exitNotFound, []string{"nobody", "--absent"}, "pin", "x", "nobody", "--yes")
	l.says(exitFailed, []string{"it is not there"}, "move", "x", "nobody", "--yes")
	l.says(exitUsage, []string{"--shard", "16", "0 to 15"}, "move", "--shard", "16", other, "--yes")
	l.fails(exitNotFound, "unpin", "x")

	l.prints(fmt.Sprintf(`{"shard":%d,"from":%q,"member":%q,"resources":1,"moved":true,"done":true}`, n, owner, other),
		"move", "x", other, "--yes", "--wait", "--wait-timeout", "1m", "--reason", "hot")
	if a := get[assignmentJSON](l, "lookup", "x"); a.Member != other || a.State != "active" {
		t.Errorf("moved: %+v", a)
	}
	l.prints(fmt.Sprintf(`{"shard":%d,"from":%q,"member":%q,"resources":1,"moved":false,"done":true}`, n, other, other),
		"move", "--shard", number, other, "--wait")
	l.prints(fmt.Sprintf(`{"shard":%d,"member":%q,"pinned":true,"resources":1}`, n, owner),
		"pin", "--shard", number, owner, "--yes", "--by", "ann")
	l.says(exitFailed, []string{"pinned", owner, "unpin it first"}, "move", "x", other, "--yes")
	pins := get[[]orderJSON](l, "pins")
	if len(pins) != 1 || *pins[0].Shard != n || pins[0].Member != owner || pins[0].By != "ann" || pins[0].Ignored {
		t.Errorf("pins: %+v", pins)
	}
	if table := l.ok("status"); !strings.Contains(table, fmt.Sprintf("shard %d to %s by ann", n, owner)) {
		t.Errorf("status: %s", table)
	}
	l.prints(fmt.Sprintf(`{"shard":%d,"member":%q,"pinned":false}`, n, owner), "unpin", "x")
	eventually(t, func() error { // the move counts again
		if a := get[assignmentJSON](l, "lookup", "x"); a.Member != other {
			return fmt.Errorf("unpinned: %+v", a)
		}
		return nil
	})
}

func TestRebalanceIsBegunByTheCoordinator(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "x", "--create")
	l.says(exitFailed, []string{"no live coordinator"}, "rebalance")
	l.agent("m1", "--allocate-only", "--handler-log")
	eventually(t, func() error {
		if s := get[statusJSON](l, "status"); s.Coordinator == "" {
			return errors.New("there is no coordinator")
		}
		return nil
	})
	l.prints(`{"ordered":true,"done":true}`, "rebalance", "--wait")
	l.prints(`{"ordered":true,"done":false}`, "rebalance", "--reason", "new hosts")
}

func TestAShardNamesItselfOrAResource(t *testing.T) {
	for _, test := range []struct {
		args, env []string
		want      string // the resource, or the number, and the member; empty: wrong usage
	}{
		{args: []string{"pin", "r", "m"}, want: "r 0 m"},
		{args: []string{"pin", "--shard", "7", "m"}, want: " 7 m"},
		{args: []string{"pin", "m", "--shard", "0"}, want: " 0 m"},
		{args: []string{"pin", "m"}, env: []string{"DRM_PIN_SHARD=7"}, want: " 7 m"},
		{args: []string{"pin", "r", "m"}, env: []string{"DRM_PIN_SHARD=7"}, want: "r 0 m"},
		{args: []string{"pin", "m"}},
		{args: []string{"pin", "--shard", "7", "r", "m"}},
		{args: []string{"pin", "--shard", "x", "m"}},
		{args: []string{"pin", "--shard", "-1", "m"}},
		{args: []string{"pin", "--shard", "7"}},
		{args: []string{"pin", "", "m"}},
		{args: []string{"pin", "r", ""}},
		{args: []string{"unpin", "r"}, want: "r 0 "},
		{args: []string{"unpin", "--shard", "7"}, want: " 7 "},
		{args: []string{"unpin"}},
		{args: []string{"unpin", "r", "m"}},
	} {
		t.Run(strings.Join(append(test.env, test.args...), " "), func(t *testing.T) {
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			got := ""
			err := parsed(t, test.args, func(c *cli.Context) {
				other := map[bool]string{true: "member id"}[test.args[0] == "pin"]
				target, member, err := shardArguments(c, other)
				if err != nil {
					if exitCode(err) != exitUsage {
						t.Errorf("%v is no usage error", err)
					}
					return
				}
				got = fmt.Sprintf("%s %d %s", target.resource, target.number, member)
			})
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestOnlyAYesIsAYes(t *testing.T) {
	for answer, want := range map[string]error{
		"y\n": nil, "YES\n": nil, " yes \r\n": nil, "y": nil,
		"n\n": errNotConfirmed, "\n": errNotConfirmed, "": errNotConfirmed, "yo\n": errNotConfirmed,
	} {
		var out bytes.Buffer
		if err := ask(t.Context(), strings.NewReader(answer), &out, "do it"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", answer, err, want)
		}
		if out.String() != "do it? [y/N] " {
			t.Errorf("it asks %q", out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, speaker := io.Pipe()
	defer func() { _ = speaker.Close() }() // ends the goroutine that reads
	if err := ask(ctx, silent, io.Discard, "do it"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWhatAnOrderSaysIsShownOnOneLine(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, test := range []struct {
		order drm.OrderInfo
		want  string
	}{
		{drm.OrderInfo{Kind: drm.OrderDrain, Live: true}, "drained"},
		{
			drm.OrderInfo{Kind: drm.OrderCordon, By: "a\x1b[2J", Why: "b\nc", Since: at, Until: at},
			"cordoned by a\\x1b[2J: b; c (since 2026-02-03T04:05:06Z, until 2026-02-03T04:05:06Z), not there",
		},
		{drm.OrderInfo{Kind: drm.OrderDrain, Live: true, Ignored: true}, "drained, ignored"},
		{drm.OrderInfo{Kind: drm.OrderWeight, Weight: 3, Live: true, By: "x"}, "weight 3 by x"},
		{drm.OrderInfo{Kind: drm.OrderPin, Shard: 5, Ignored: true}, "shard 5 pinned, not there, not in force"},
		{drm.OrderInfo{Kind: drm.OrderMove, Shard: 5, Live: true, Why: "hot"}, "shard 5 moved: hot"},
	} {
		if got := deed(test.order) + orderWords(test.order); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestAPinOfAShardThatIsEmptyAsksToo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "x", "--create", "--shards", "16")
	empty := (shard.Of("x", 16) + 1) % 16
	l.says(exitUsage, []string{"0 resources that nobody has", "--yes"},
		"pin", "--shard", fmt.Sprint(empty), "m", "--absent")
	l.ok("pin", "--shard", fmt.Sprint(empty), "m", "--absent", "--yes")
	got := drmctl(t.Context(), append(l.args(), "members")...)
	if !strings.Contains(got.stdout, "absent") || !strings.Contains(got.stdout, "1 pinned (drmctl pins)") {
		t.Errorf("members: %+v", got)
	}
	if !strings.Contains(got.stderr, "orders stand about members that are not there") {
		t.Errorf("members: %+v", got)
	}
	if got := drmctl(t.Context(), append(l.args(), "verify", "--settle", "0")...); !strings.Contains(got.stderr,
		"shards pinned by order: 1") {
		t.Errorf("verify: %+v", got)
	}
}
