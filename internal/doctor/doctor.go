// Package doctor finds out what is wrong between this machine and an app on etcd: addresses, network, TLS, users,
// permissions, the etcd cluster, its speed and its limits, and what the app's keys say.
//
// It changes nothing in etcd. Reads are tried. Whether a write would be allowed is found out by a transaction whose
// comparison never holds: etcd checks the permissions of both branches before it looks at the comparison.
package doctor

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Result is the outcome of a check.
type Result string

// The results, from the best to the worst. Skip says that the check was not made, and why.
const (
	OK   Result = "ok"
	Skip Result = "skip"
	Warn Result = "warn"
	Fail Result = "fail"
)

// Role is what somebody wants to do with an app.
type Role string

// The roles.
const (
	Reader   Role = "reader"   // looks at the app
	Operator Role = "operator" // gives orders and allocates resources, too
	Member   Role = "member"   // handles resources
)

// Roles are all roles, from the one that needs the fewest permissions.
func Roles() []Role { return []Role{Reader, Operator, Member} }

// Check is one check and its outcome.
type Check struct {
	Definition
	Subject string // the endpoint that the check is about; empty: it is about all of etcd, or the app
	Result  Result
	Summary string // what was found, or why the check was skipped
	Action  string // what to do about it; empty where there is nothing to do
	Took    time.Duration
}

// Config says what is checked.
type Config struct {
	Etcd    etcd.Config // how etcd is reached; Client must be nil
	Prefix  string      // where all apps are
	App     string      // empty: checks about an app are skipped
	As      Role
	Only    []string      // the categories to check; empty: all
	Skip    []string      // categories that are left out
	Timeout time.Duration // of each check
}

// Run makes the checks, in the order of Categories. It also yields a failure of what a chosen category needs, although
// that was not chosen. When ctx ends, the remaining checks are skipped.
func Run(ctx context.Context, cfg Config) iter.Seq[Check] {
	return func(yield func(Check) bool) {
		r := &run{cfg: cfg, yield: yield, blocked: map[string]string{}}
		defer r.close()
		r.all(ctx)
	}
}

// run is one run of the doctor.
type run struct {
	cfg     Config
	yield   func(Check) bool
	stopped bool              // nobody wants further checks
	chosen  bool              // the category in progress was chosen; otherwise only its failures are yielded
	blocked map[string]string // why nothing that needs a category can be checked, by category

	targets []*target
	client  *clientv3.Client // of all endpoints that answer
	token   string           // of the user and password, where etcd gave one
	roles   []string         // the user's roles, as far as known
	perms   []string         // what they permit, in words
	app     appFacts
}

// close ends the connections.
func (r *run) close() {
	for _, t := range r.targets {
		if t.client != nil {
			_ = t.client.Close() // its error says only that it was closed
		}
	}
	if r.client != nil {
		_ = r.client.Close()
	}
}

func (r *run) all(ctx context.Context) {
	for _, c := range r.plan() {
		if r.stopped {
			return
		}
		r.chosen = r.isChosen(c.name)
		if why := r.whyNot(c); why != "" {
			r.block(c.name, why)
			for _, d := range definitionsOf(c.name) {
				r.add(Check{Definition: d, Result: Skip, Summary: why})
			}
			continue
		}
		c.run(ctx, r)
	}
}

// isChosen says whether the caller wants to see a category.
func (r *run) isChosen(name string) bool {
	return (len(r.cfg.Only) == 0 || slices.Contains(r.cfg.Only, name)) && !slices.Contains(r.cfg.Skip, name)
}

// plan returns the categories that were chosen, and those that they need.
func (r *run) plan() []category {
	wanted := map[string]bool{}
	all := categories()
	for _, c := range slices.Backward(all) { // what a category needs comes before it
		if !wanted[c.name] && !r.isChosen(c.name) {
			continue
		}
		wanted[c.name] = true
		for _, n := range c.needs {
			wanted[n] = true
		}
	}
	return slices.DeleteFunc(all, func(c category) bool { return !wanted[c.name] })
}

// whyNot says why a category cannot be checked, or "".
func (r *run) whyNot(c category) string {
	for _, n := range c.needs {
		if why := r.blocked[n]; why != "" {
			return why
		}
	}
	return ""
}

// block notes why nothing can be checked that needs a category. The first reason stays.
func (r *run) block(name, why string) {
	if r.blocked[name] == "" {
		r.blocked[name] = why
	}
}

// add yields a check, if the caller wants it.
func (r *run) add(c Check) {
	if !r.stopped && (r.chosen || c.Result == Fail) {
		r.stopped = !r.yield(c)
	}
}

// check makes a check with its own timeout, and yields it.
func (r *run) check(ctx context.Context, d Definition, subject string, do func(ctx context.Context) finding) finding {
	c, f := r.outcome(ctx, d, subject, do)
	r.add(c)
	return f
}

// outcome makes a check with its own timeout, and returns it.
func (r *run) outcome(
	ctx context.Context, d Definition, subject string, do func(ctx context.Context) finding,
) (Check, finding) {
	if ctx.Err() != nil {
		f := skipped("the time was up before this check")
		return Check{Definition: d, Subject: subject, Result: f.result, Summary: f.summary}, f
	}
	bounded, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	began := time.Now()
	f := do(bounded)
	return Check{
		Definition: d, Subject: subject, Result: f.result, Summary: f.summary, Action: f.action,
		Took: time.Since(began),
	}, f
}

// seeLog is the action where etcd refuses something for a reason that nobody expects.
const seeLog = "see what etcd's log says of the request"

// finding is what a check has found.
type finding struct {
	result          Result
	summary, action string
}

func fine(format string, args ...any) finding { return finding{OK, fmt.Sprintf(format, args...), ""} }

func skipped(format string, args ...any) finding {
	return finding{Skip, fmt.Sprintf(format, args...), ""}
}

func warning(action, format string, args ...any) finding {
	return finding{Warn, fmt.Sprintf(format, args...), action}
}

func failure(action, format string, args ...any) finding {
	return finding{Fail, fmt.Sprintf(format, args...), action}
}

// because names a check that has failed, as the reason why others are skipped.
func because(d Definition) string { return fmt.Sprintf("%s (%s) failed", d.Code, d.Name) }

// root is the prefix of the keys that the run is about: those of the app, or of all apps where none is given.
func (c Config) root() string {
	if c.App == "" {
		return keys.Apps(c.Prefix)
	}
	return keys.New(c.Prefix, c.App).Root()
}
