package drm

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/doctor"
)

// DefaultDiagnoseTimeout is how long Diagnose takes at most, unless DiagnoseConfig.Timeout says otherwise.
const DefaultDiagnoseTimeout = time.Minute

// DiagnoseRole is what somebody wants to do with an app, which decides what Diagnose asks of permissions.
type DiagnoseRole string

// The roles, from the one that needs the fewest permissions.
const (
	// DiagnoseReader looks at the app.
	DiagnoseReader DiagnoseRole = "reader"
	// DiagnoseOperator gives orders and allocates resources, too.
	DiagnoseOperator DiagnoseRole = "operator"
	// DiagnoseMember handles resources: it is a member of the app.
	DiagnoseMember DiagnoseRole = "member"
)

// DiagnoseConfig says what Diagnose looks at.
type DiagnoseConfig struct {
	// App is the app; empty: what is about an app is skipped, and permissions are those for all apps below Prefix.
	App string
	// Prefix is where all apps are. Default DefaultPrefix.
	Prefix string
	// Etcd says how to reach etcd. Client and Connection must be nil. That its endpoints are no endpoints is a finding,
	// and no error. Each check takes CommandTimeout at most.
	Etcd EtcdConfig
	// As is for what the permissions must suffice. Default DiagnoseReader.
	As DiagnoseRole
	// Only has the categories that are checked, out of DiagnoseCategories. Default: all.
	Only []string
	// Skip has categories that are left out.
	Skip []string
	// Timeout is how long all checks may take together; what is left then is skipped. Default DefaultDiagnoseTimeout.
	Timeout time.Duration
}

// CheckResult is the outcome of a Check.
type CheckResult string

// The results.
const (
	CheckOK   CheckResult = "ok"
	CheckSkip CheckResult = "skip" // it was not made; the summary says why
	CheckWarn CheckResult = "warn" // members work, and something should be mended
	CheckFail CheckResult = "fail" // members, or those who look, do not work
)

// Check is one thing that Diagnose has looked at.
type Check struct {
	Code     string // DRM1nn, which never changes its meaning; docs/doctor.md has all
	Category string // one of DiagnoseCategories
	Name     string
	Endpoint string // that it is about; empty: it is about etcd as a whole, or the app
	Result   CheckResult
	Summary  string        // what was found, for people
	Action   string        // what to do about it, for people; empty where there is nothing to do
	Took     time.Duration // how long the check took
}

// DiagnoseCategories are the names of the categories, in the order in which Diagnose checks them.
func DiagnoseCategories() []string { return doctor.Categories() }

// Diagnose looks for what is wrong between this program and an app on etcd: the endpoints, the network, TLS, the user,
// permissions, the members of etcd and their versions, alarms, space, latency, limits, proxies, watches, the app
// itself, the life of leases, and this machine's clock. It changes nothing in etcd, and works with a user who may only
// read: what cannot be known is skipped, with the reason. A check whose prerequisites fail is skipped as well. A failed
// prerequisite is reported also where its category was not asked for.
//
// The checks come in order, each when it is done. The error is an *InputError for a bad cfg; what is wrong with etcd
// is no error.
func Diagnose(ctx context.Context, cfg DiagnoseConfig) (iter.Seq[Check], error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, fmt.Errorf("diagnose: %w", err)
	}
	inner := doctor.Config{
		Etcd: cfg.Etcd.inner(), Prefix: cfg.Prefix, App: cfg.App, As: doctor.Role(cfg.As),
		Only: cfg.Only, Skip: cfg.Skip, Timeout: cfg.Etcd.CommandTimeout,
	}
	return func(yield func(Check) bool) {
		ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
		for c := range doctor.Run(ctx, inner) {
			if !yield(Check{
				c.Code, c.Category, c.Name, c.Subject, CheckResult(c.Result), c.Summary, c.Action, c.Took,
			}) {
				return
			}
		}
	}, nil
}

func (c *DiagnoseConfig) withDefaults() error {
	app := c.App
	if app == "" {
		app = "any" // without an app, only the prefix is checked
	}
	if err := checkApp(app, &c.Prefix); err != nil {
		return err
	}
	if c.As == "" {
		c.As = DiagnoseReader
	}
	if !slices.Contains(doctor.Roles(), doctor.Role(c.As)) {
		return &InputError{"As", string(c.As), "reader, operator or member"}
	}
	for field, names := range map[string][]string{"Only": c.Only, "Skip": c.Skip} {
		for _, name := range names {
			if !slices.Contains(DiagnoseCategories(), name) {
				return &InputError{field, name, "some of " + strings.Join(DiagnoseCategories(), ", ")}
			}
		}
	}
	if !slices.ContainsFunc(DiagnoseCategories(), func(name string) bool {
		return (len(c.Only) == 0 || slices.Contains(c.Only, name)) && !slices.Contains(c.Skip, name)
	}) {
		return &InputError{"Skip", strings.Join(c.Skip, ","), "fewer categories: it leaves nothing to check"}
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultDiagnoseTimeout
	}
	switch {
	case c.Timeout < time.Millisecond || c.Timeout > time.Hour:
		return &InputError{"Timeout", c.Timeout.String(), "1ms to 1h"}
	case c.Etcd.Client != nil || c.Etcd.Connection != nil:
		return &InputError{"Etcd", "a connection", "how to make one"}
	case c.Etcd.TLS != nil && c.Etcd.GetTLS != nil:
		return &InputError{"Etcd.GetTLS", "set", "one of TLS and GetTLS"}
	}
	return c.Etcd.checkTimeouts()
}
