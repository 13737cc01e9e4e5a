package handler_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// processorTime is the processor time that this process, its ended children and its guards have used.
func processorTime(b *testing.B) (total time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	for _, pid := range childrenOf("self") {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		for _, field := range strings.Fields(rest)[11:15] { // its own time, and that of its ended children
			ticks, _ := strconv.Atoi(field)
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}

func startMany(b *testing.B, e *handler.Exec, n int, v drm.Validity) {
	b.Helper()
	for i := range n {
		c := drm.NewClaim("app", "m1", drm.Resource{ID: fmt.Sprint(i)}, 1, v)
		if err := e.Handle(context.WithoutCancel(b.Context()), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExecStart measures the processor time of a run of /bin/true, including the program's own, and for comparison
// that of a run by package os/exec.
func BenchmarkExecStart(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		before := processorTime(b)
		for range b.N {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/start")
	})
	b.Run("exec", benchmarkStart)
}

func benchmarkStart(b *testing.B) {
	e, err := handler.NewExec(handler.ExecConfig{Command: []string{"/bin/true"}, Backoff: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	startMany(b, e, 1, remaining(time.Hour)) // the guard's own start is not counted
	before := processorTime(b)
	for i := range b.N {
		c := drm.NewClaim("app", "m1", drm.Resource{ID: fmt.Sprint("r", i)}, 1, remaining(time.Hour))
		if err := e.Handle(context.WithoutCancel(b.Context()), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/start")
	if err := e.Close(b.Context()); err != nil {
		b.Error(err)
	}
}

// renewed is the validity of a lease of 5 s that is renewed each second.
type renewed struct{ since time.Time }

func (r renewed) Remaining() time.Duration {
	return 4500*time.Millisecond - time.Since(r.since)%time.Second
}

// BenchmarkExecIdle measures which share of a processor agent and guards use for 1,000 processes that do nothing.
// Run it with -benchtime 1x.
func BenchmarkExecIdle(b *testing.B) {
	e, err := handler.NewExec(handler.ExecConfig{Command: []string{"sleep", "100000"}})
	if err != nil {
		b.Fatal(err)
	}
	startMany(b, e, 1000, renewed{time.Now()})
	before, began := processorTime(b), time.Now()
	<-time.After(20 * time.Second)
	used, took := processorTime(b)-before, time.Since(began)
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "percent-of-a-cpu")
	b.ReportMetric(float64(len(childrenOf("self"))), "guards")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		b.Error(err)
	}
}
