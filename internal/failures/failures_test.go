package failures

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// observed makes a Log whose lines are kept.
func observed(t *testing.T) (*Log, func() []string) {
	core, lines := observer.New(zap.DebugLevel)
	l := New(zap.New(core))
	t.Cleanup(l.Close)
	return l, func() (said []string) {
		for _, e := range lines.TakeAll() {
			m := e.ContextMap()
			s := fmt.Sprintf("%v %s:", e.Level, e.Message)
			for _, name := range []string{
				"call", "resource", "token", "error", "more", "resources", "in", "failures", "within", "quiet",
			} {
				if v, ok := m[name]; ok {
					s += fmt.Sprintf(" %s=%v", name, v)
				}
			}
			said = append(said, s)
		}
		return said
	}
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func refused(n int) Failure {
	id := fmt.Sprintf("r%d", n)
	return Failure{
		Message:  "call failed",
		Level:    zap.WarnLevel,
		Call:     "handle",
		Resource: id,
		Fields:   []zap.Field{zap.Int("token", n)},
		Error: fmt.Sprintf(
			"webhook: handle resource %q (token %d): POST http://h:9/: "+
				"dial tcp 127.0.0.1:9: connect: connection refused", id, n),
	}
}

func refusedText(n int) string { return refused(n).Error }

func TestTheFirstOfAKindIsToldAtOnceAndTheOthersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, said := observed(t)
		for n := range 29 {
			l.Add(refused(n + 1))
		}
		expect(t, said(), "warn call failed: call=handle resource=r1 token=1 error="+refusedText(1))
		time.Sleep(30 * time.Second)
		for n := range 29 {
			l.Add(refused(n + 1))
		}
		expect(t, said())
		time.Sleep(30 * time.Second)
		synctest.Wait()
		expect(
			t,
			said(),
			"warn call failed; more of the same: call=handle resource=r29 error="+refusedText(
				29,
			)+" more=57 resources=29 in=1m0s",
		)
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, said()) // the kind has stopped, so it may begin again
		l.Add(refused(7))
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(
			t,
			said(),
			"warn call failed; more of the same: call=handle resource=r7 error="+refusedText(
				7,
			)+" more=1 resources=1 in=2m0s",
		)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		expect(
			t,
			said(),
			"info call failed; no more of the same: call=handle resource=r7 error="+refusedText(
				7,
			)+" failures=59 within=2m0s quiet=4m0s",
		)
		l.Add(refused(3))
		expect(t, said(), "warn call failed: call=handle resource=r3 token=3 error="+refusedText(3))
	})
}

func TestAFailureThatComesOnceMakesOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, said := observed(t)
		l.Add(refused(1))
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := said(); len(got) != 1 {
			t.Errorf("lines: %q", got)
		}
	})
}

func TestKindsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, said := observed(t)
		other := refused(1)
		other.Call = "terminate"
		status := func(n int) Failure {
			f := refused(2)
			f.Error = fmt.Sprintf("status %d", n)
			return f
		}
		for _, f := range []Failure{
			refused(1), other, status(500), status(503), {Message: "process ended", Error: "exit status 1"},
		} {
			l.Add(f)
			l.Add(f)
		}
		if got := said(); len(got) != 5 {
			t.Errorf("lines: %q", got)
		}
	})
}

func TestCloseTellsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, said := observed(t)
		l.Add(refused(1))
		l.Add(refused(2))
		time.Sleep(5 * time.Second)
		said()
		l.Close()
		l.Close()
		expect(
			t,
			said(),
			"warn call failed; more of the same: call=handle resource=r2 error="+refusedText(
				2,
			)+" more=1 resources=1 in=5s",
		)
		l.Add(refused(3)) // as a handling that was left behind may do
		l.Add(refused(4))
		if got := said(); len(got) != 2 {
			t.Errorf("after Close: %q", got)
		}
	})
}

func (l *Log) known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kinds)
}

// An error may say something different each time, for ever.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, said := observed(t)
		for n := range 10_000 {
			word := strings.Map(func(r rune) rune { return 'a' + (r - '0') }, fmt.Sprint(n))
			l.Add(
				Failure{
					Message:  "call failed",
					Call:     "handle",
					Resource: fmt.Sprint("r", n),
					Error:    "the word is " + word,
				},
			)
		}
		if got, kinds := len(said()), l.known(); got != mostKinds+1 || kinds != mostKinds+1 {
			t.Errorf("%d lines, %d kinds", got, kinds)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := fmt.Sprintf("more=%d resources=%d", 10_000-mostKinds-1, mostNames)
		if got := said(); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("lines: %q, want one with %q", got, want)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if kinds := l.known(); kinds != 0 || l.timer != nil {
			t.Errorf("%d kinds are kept for ever", kinds)
		}
	})
}

func TestALevelThatIsOffCountsNothing(t *testing.T) {
	core, lines := observer.New(zap.ErrorLevel)
	l := New(zap.New(core))
	defer l.Close()
	l.Add(refused(1))
	if lines.Len() != 0 || l.known() != 0 {
		t.Error("it was counted")
	}
}

// A logger's sink may call back into the code that logs.
type calling struct {
	zapcore.Core
	back func()
}

func (c calling) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c calling) Write(zapcore.Entry, []zapcore.Field) error { c.back(); return nil }

func TestASinkMayLogItself(t *testing.T) {
	var l *Log
	var once sync.Once
	core, _ := observer.New(zap.DebugLevel)
	l = New(zap.New(calling{core, func() { once.Do(func() { l.Add(refused(2)) }) }}))
	l.Add(refused(1))
	l.Close()
}

func TestNormal(t *testing.T) {
	for _, same := range [][2]Failure{
		{refused(1), refused(20_000)},
		{
			{Error: "read tcp 127.0.0.1:41234->10.0.0.1:9000: reset"},
			{Error: "read tcp 127.0.0.1:52345->10.0.0.1:9000: reset"},
		},
		{
			{Error: `handle_failed resource "r \" 1" (token 7): no`},
			{Error: `handle_failed resource "s" (token 19): no`},
		},
		{{Error: "late by 12.345ms"}, {Error: "late by 1m2.5s"}},
		{{Error: "since 2026-11-28T21:38:18Z"}, {Error: "since 2026-11-29T01:02:03.5Z"}},
		{{Error: "request 3f2a9c1e8b7d: no"}, {Error: "request 99aabbccdde1: no"}},
		{{Error: "job 0f8fad5b-d9cb-469f-a165-70867728950e"}, {Error: "job 7c9e6679-7425-40de-944b-e07fc1f90ae7"}},
		{
			{Resource: "feed/1 é", Error: `cannot open "feed/1 é"`},
			{Resource: "feed/2 é", Error: `cannot open "feed/2 é"`},
		},
		{{Resource: "a", Error: `no "a": a connection broke`}, {Resource: "b", Error: `no "b": a connection broke`}},
		{{Resource: "r1", Error: "r1: r15 is at large"}, {Resource: "r9", Error: "r9: r15 is at large"}},
	} {
		a, b := normal(same[0].Error, same[0].Resource), normal(same[1].Error, same[1].Resource)
		if a != b {
			t.Errorf("two kinds: %q, %q", a, b)
		}
	}
	for _, differ := range [][2]string{
		{"status 500", "status 503"}, {"exit status 1", "exit status 2"}, {"signal: killed", "signal: terminated"},
	} {
		if normal(differ[0], "r") == normal(differ[1], "r") {
			t.Errorf("one kind: %q", differ)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	core, _ := observer.New(zap.WarnLevel)
	l := New(zap.New(core))
	f := refused(1)
	for b.Loop() {
		l.Add(f)
	}
	l.Close()
}
