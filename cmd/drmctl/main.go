// Command drmctl looks at DRM apps, operates them, and runs members of them. `drmctl --help` tells the rest.
//
// Each command has a file of its own. app.go has what they share; argv.go lets flags stand anywhere; exit.go turns
// errors into exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/supervise"
)

func main() {
	if asksForRun(os.Args) {
		go func() { os.Exit(realMain()) }()
		supervise.WatchKeys() // which never returns
	}
	os.Exit(realMain())
}

func init() {
	if asksForRun(os.Args) {
		runtime.LockOSThread() // supervise.WatchKeys needs the first thread
	}
}

// asksForRun reports whether a command line may be one of drmctl run. It is true for some others, which is harmless.
func asksForRun(args []string) bool { return slices.Contains(args, runName) }

func realMain() int {
	// This process guards a process of --handler-exec, and must not do anything else.
	if len(os.Args) > 1 && os.Args[1] == handler.GuardArg {
		return handler.RunGuard(os.Args[2:])
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// signalPause is how soon after the first signal another one counts as the same. A terminal signals all processes of a
// command at once, and some of them, such as timeout(1), pass on what they receive.
const signalPause = time.Second

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The second one ends the process with exit code
// 1, for users who cannot wait for a graceful stop.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case s := <-signals:
				if first.IsZero() {
					first = time.Now()
					cancel()
				} else if time.Since(first) > signalPause {
					say(os.Stderr, "drmctl: second signal (%s): not waiting any longer\n", s)
					os.Exit(exitFailed)
				}
			case <-done:
				return
			}
		}
	}()
	leave := sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
	})
	return context.WithValue(ctx, leaveKey{}, leave), func() {
		leave()
		cancel()
	}
}

type leaveKey struct{}

// leaveSignals makes signals no longer end a context of untilSignal, for a command that takes them itself. Other
// contexts have nothing to do with signals.
func leaveSignals(ctx context.Context) {
	if leave, ok := ctx.Value(leaveKey{}).(func()); ok {
		leave()
	}
}
