package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/bench"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/procfs"
)

const (
	flagScale      = "scale"
	flagCPUProfile = "cpuprofile"
	flagMemProfile = "memprofile"
	flagRuns       = "runs"
)

// benchAll stands for all benches but those that take as long as the others together.
const benchAll = "all"

// apart are the benches that are no part of benchAll.
func apart() []string { return []string{"many", "million"} }

// benchDescription is a format. It needs the list of the benches, benchAll, and the benches that are no part of that.
const benchDescription = `
The benches:
%s
%s runs all but %s. Without --endpoints (or DRM_ENDPOINTS) each has an etcd of its own,
a process on this machine with fsync; with it a real one is put under load, below the prefix /drm-bench, which
is cleared again.
The exit code is 1 if one did not reach what it should; what that is says docs/performance.md.

Examples:
   drmctl bench claim failover
   drmctl bench all -o json
   drmctl bench memory --scale 0.1
   drmctl bench takeover --resources 5000 --runs 3
`

func benchCommand() *cli.Command {
	const name = "bench"
	var list strings.Builder
	for _, b := range bench.Names() {
		fmt.Fprintf(&list, "   %-11s %s\n", b, bench.Work(b))
	}
	return &cli.Command{
		Name:      name,
		Usage:     "measure DRM against etcd's own speed, each figure a ratio within one run",
		ArgsUsage: "NAME... | " + benchAll,
		Description: fmt.Sprintf(strings.TrimSpace(benchDescription), list.String(), benchAll,
			strings.Join(apart(), " and ")),
		Flags: []cli.Flag{
			&cli.Float64Flag{
				Name: flagScale, EnvVars: commandEnv(name, flagScale), Value: 1,
				Usage: "take this `SHARE` of the resources: 0.0001 to 10; what should be reached is meant for 1",
			},
			&cli.IntFlag{
				Name: flagResources, EnvVars: commandEnv(name, flagResources), Value: 1000,
				Usage: "takeover: how many resources the member has that is killed: 1 to 100000",
			},
			&cli.IntFlag{
				Name: flagRuns, EnvVars: commandEnv(name, flagRuns), Value: 10,
				Usage: "takeover: how many times it is killed, with a supervisor and without: 1 to 1000",
			},
			&cli.StringFlag{
				Name: flagCPUProfile, EnvVars: commandEnv(name, flagCPUProfile),
				Usage: "write a CPU profile of the members to this `FILE`",
			},
			&cli.StringFlag{
				Name: flagMemProfile, EnvVars: commandEnv(name, flagMemProfile),
				Usage: "write a heap profile, taken at the end, to this `FILE`",
			},
		},
		Action: endWithReaders(runBench),
	}
}

// benchJSON is part of the JSON contract.
type benchJSON struct {
	Bench   string             `json:"bench"`
	Figures map[string]float64 `json:"figures"`
	Reach   string             `json:"reach"`
	OK      bool               `json:"ok"`
}

func runBench(c *cli.Context) (err error) {
	names, err := benchNames(c.Args().Slice())
	if err := errors.Join(err, checkOutput(c)); err != nil {
		return err
	}
	scale := c.Float64(flagScale)
	if !(scale >= 0.0001 && scale <= 10) { // this also refuses NaN
		return badFlag(flagScale, strconv.FormatFloat(scale, 'g', -1, 64), "0.0001 to 10")
	}
	if err := checkTakeover(c, names); err != nil {
		return err
	}
	etcd, err := benchEtcd(c)
	if err != nil {
		return err
	}
	growHeap()
	stop, err := profile(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	opts := bench.Options{
		Scale: scale, Etcd: etcd, Spawn: benchSpawn(c), Resources: c.Int(flagResources), Runs: c.Int(flagRuns),
		Say: func(line string) { fmt.Fprintln(c.App.ErrWriter, "  "+line) },
	}
	results := make([]benchJSON, 0, len(names))
	missed := 0
	var failed error
	for _, name := range names {
		fmt.Fprintf(c.App.ErrWriter, "%s: %s\n", name, bench.Work(name))
		var r bench.Result
		if r, failed = bench.Run(c.Context, name, opts); failed != nil {
			break // the results that there are so far are shown all the same
		}
		if !r.OK {
			missed++
		}
		results = append(results, benchJSON(r))
		runtime.GC() // frees what this bench leaves, which must not slow down the next one
	}
	if failed == nil && missed > 0 {
		failed = fmt.Errorf("%d of %d benches did not reach what they should", missed, len(results))
	}
	if len(results) == 0 {
		return failed
	}
	return errors.Join(failed, showBench(c, names, results))
}

func showBench(c *cli.Context, names []string, results []benchJSON) error {
	return show(c, results, strings.Join(names, "\n"), func(p *output.Page) { benchTable(p, results) })
}

// checkTakeover checks the flags that only takeover has.
func checkTakeover(c *cli.Context, names []string) error {
	for _, flag := range []string{flagResources, flagRuns} {
		if typed(c, flag) && !slices.Contains(names, bench.Takeover) {
			return usagef("--%s goes with the bench %s only", flag, bench.Takeover)
		}
	}
	return errors.Join(numberInRange(c, flagResources, 1, 100_000), numberInRange(c, flagRuns, 1, 1000))
}

// benchSpawn returns a function that starts drmctl in a process of its own. Where the flags name an etcd, the process
// gets what they say of certificates and users, in its environment, where others do not see it.
func benchSpawn(c *cli.Context) func(args ...string) (bench.Process, error) {
	var env []string
	if c.IsSet(flagEndpoints) {
		for _, flag := range []string{flagCACert, flagCert, flagKey, flagUser, flagPassword} {
			if value := c.String(flag); value != "" {
				env = append(env, "DRM_"+screaming(flag)+"="+value)
			}
		}
	}
	return func(args ...string) (bench.Process, error) {
		p, err := startProcessWith(env, nil, nil, args...)
		if err != nil {
			return nil, err
		}
		return benchProcess{p}, nil
	}
}

// benchProcess is a process as a bench sees it.
type benchProcess struct{ p *process }

// PID implements bench.Process.
func (b benchProcess) PID() int { return b.p.cmd.Process.Pid }

// Kill implements bench.Process.
func (b benchProcess) Kill() error { return b.p.kill() }

// Done implements bench.Process.
func (b benchProcess) Done() <-chan struct{} { return b.p.done }

// Last implements bench.Process.
func (b benchProcess) Last() string { return b.p.log.last() }

// benchNames returns the benches that the arguments name, in that order.
func benchNames(args []string) ([]string, error) {
	known := bench.Names()
	var names []string
	for _, a := range args {
		switch {
		case a == benchAll:
			all := slices.DeleteFunc(slices.Clone(known), func(n string) bool { return slices.Contains(apart(), n) })
			names = append(names, all...)
		case slices.Contains(known, a):
			names = append(names, a)
		default:
			return nil, usagef("bench %q, want %s or %s", a, strings.Join(known, ", "), benchAll)
		}
	}
	if len(names) == 0 {
		return nil, usagef("bench what? want %s or %s", strings.Join(known, ", "), benchAll)
	}
	return names, nil
}

// benchTable prints the figures of each bench below one another, since no two benches have the same figures.
func benchTable(p *output.Page, results []benchJSON) {
	var rows [][]any
	for _, r := range results {
		reach, ok := r.Reach, "no"
		if r.OK {
			ok = "yes"
		}
		name := r.Bench
		for _, f := range slices.Sorted(maps.Keys(r.Figures)) {
			figure := strconv.FormatFloat(r.Figures[f], 'f', decimals(r.Figures[f]), 64)
			rows = append(rows, []any{name, f, figure, reach, ok})
			name, reach, ok = "", "", ""
		}
	}
	p.Rows([]string{"BENCH", "FIGURE", "VALUE", "REACH", "OK"}, rows)
}

// decimals is the number of decimals that v is printed with. Larger values have fewer.
func decimals(v float64) int {
	switch {
	case v == float64(int64(v)) || v >= 1000:
		return 0
	case v >= 100:
		return 1
	case v >= 10:
		return 2
	default:
		return 3
	}
}

// benchEtcd returns a function that provides the etcd of a bench: the one that the flags name, or else one that it
// starts in a process of its own. In this process, the figures would count etcd's CPU and memory as the members'.
func benchEtcd(c *cli.Context) (func(context.Context) (bench.Etcd, error), error) {
	if c.IsSet(flagEndpoints) {
		cfg, err := etcdConfig(c, nil)
		if err != nil {
			return nil, err
		}
		return func(context.Context) (bench.Etcd, error) { return bench.Etcd{Config: cfg}, nil }, nil
	}
	cfg, err := etcdTimeouts(c) // the other flags and variables are about an etcd that runs already
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (e bench.Etcd, err error) {
		dir, err := os.MkdirTemp("", "drm-bench-")
		if err != nil {
			return e, err
		}
		out := &lineWriter{lines: make(chan string, 1)}
		p, err := startProcessTo(out, nil, "etcd", "--data-dir", filepath.Join(dir, "etcd"),
			"--listen-client", "127.0.0.1:0", "--listen-peer", "127.0.0.1:0",
			"--quota", "8GiB", "--auto-compaction", "off")
		if err != nil {
			return e, errors.Join(err, os.RemoveAll(dir))
		}
		stop := func() error { return errors.Join(p.kill(), os.RemoveAll(dir)) }
		select {
		case line := <-out.lines:
			local := drm.EtcdConfig{
				Endpoints:   []string{strings.TrimPrefix(line, "endpoint ")},
				DialTimeout: cfg.DialTimeout, CommandTimeout: cfg.CommandTimeout,
			}
			cpu := func() time.Duration { return procfs.CPU(p.cmd.Process.Pid) }
			return bench.Etcd{Config: local, Stop: stop, CPU: cpu}, nil
		case <-p.done:
			return e, errors.Join(fmt.Errorf("etcd ended: %s", p.log.last()), os.RemoveAll(dir))
		case <-time.After(time.Minute):
			return e, errors.Join(errors.New("etcd does not start within a minute"), stop())
		case <-ctx.Done():
			return e, errors.Join(context.Cause(ctx), stop())
		}
	}, nil
}

// lineWriter sends the first line that is written to it to lines.
type lineWriter struct {
	text  strings.Builder
	lines chan string
	done  bool
}

// Write implements io.Writer. Only one goroutine may call it.
func (l *lineWriter) Write(b []byte) (int, error) {
	if !l.done {
		l.text.Write(b)
		if line, _, ok := strings.Cut(l.text.String(), "\n"); ok {
			l.done = true
			l.lines <- line
		}
	}
	return len(b), nil
}

// profile starts the profiles that the flags ask for; stop writes them.
func profile(c *cli.Context) (stop func() error, err error) {
	var cpu *os.File
	if name := c.String(flagCPUProfile); name != "" {
		if cpu, err = os.Create(name); err != nil {
			return nil, badFlag(flagCPUProfile, name, "a file that can be written")
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, errors.Join(err, cpu.Close())
		}
	}
	return func() error {
		var errs []error
		if cpu != nil {
			pprof.StopCPUProfile()
			errs = append(errs, cpu.Close())
		}
		if name := c.String(flagMemProfile); name != "" {
			heap, err := os.Create(name)
			if err != nil {
				return errors.Join(append(errs, err)...)
			}
			errs = append(errs, pprof.Lookup("allocs").WriteTo(heap, 0), heap.Close())
		}
		return errors.Join(errs...)
	}, nil
}
