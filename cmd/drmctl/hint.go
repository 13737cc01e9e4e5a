package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// reachHints say, in terms of the flags, how to remove what prevents a connection to etcd. Each is printed once.
var reachHints = []struct {
	kinds []reach.Kind
	hint  string
}{
	{[]reach.Kind{reach.Refused}, "does etcd run there, and is --endpoints right?"},
	{[]reach.Kind{reach.NoName}, "is the name in --endpoints right?"},
	{[]reach.Kind{reach.NoAnswer}, "is --endpoints right, and does a firewall let you through?"},
	{[]reach.Kind{reach.Silent, reach.NotEtcd}, "is it etcd's port for clients (2379) that --endpoints names?"},
	{[]reach.Kind{reach.Untrusted}, "name the authority that signed it with --cacert"},
	{[]reach.Kind{reach.WrongName}, "use a name or an address in --endpoints that the certificate has"},
	{[]reach.Kind{reach.Expired, reach.BadCert}, "etcd needs another certificate, or a clock is wrong"},
	{
		[]reach.Kind{reach.WantsCert, reach.RefusesCert},
		"give a client certificate that etcd's authority signed, with --cert and --key",
	},
	{[]reach.Kind{reach.NotTLS}, "leave out --cacert, --cert, --key and https:// if etcd is served without TLS"},
	{[]reach.Kind{reach.WantsTLS}, "if etcd is served with TLS, use https:// or --cacert"},
	{[]reach.Kind{reach.NoLeader}, "is a majority of etcd's members up, and do they reach each other?"},
	{[]reach.Kind{reach.Connected, reach.Lost}, "has the cluster a quorum, and is it overloaded?"},
}

// hintOf says what the user can do about an error. It returns "" where it has no advice.
func hintOf(err error) string {
	var denied *reach.DeniedError
	var slow *slowError
	var hinted *hintedError
	switch {
	case errors.As(err, &hinted):
		return hinted.hint
	case strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner)):
		return "a member that is a learner answers: name voting members in --endpoints, or promote it " +
			"(etcdctl member promote)"
	case strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace)):
		return "etcd is full, and takes nothing but deletions: compact and defragment it, or raise its " +
			"--quota-backend-bytes, then etcdctl alarm disarm; drmctl doctor tells more"
	case login.IsRefused(err):
		return "check --user, and DRM_PASSWORD or --password"
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return "give --user NAME and DRM_PASSWORD, or a client certificate with --cert and --key"
	case errors.As(err, &denied):
		return "grant the user readwrite below --prefix: " +
			"etcdctl role grant-permission ROLE readwrite --prefix=true PREFIX/"
	case errors.As(err, &slow), reach.IsSlow(err):
		return "raise --" + flagCommandTimeout
	case !errors.Is(err, drm.ErrUnreachable):
		return ""
	}
	why := reach.ReasonOf(err)
	if why == nil {
		return ""
	}
	var hints []string
	for _, h := range reachHints {
		if why.Has(h.kinds...) {
			hints = append(hints, h.hint)
		}
	}
	return strings.Join(hints, "; ")
}

// hintedError is an error with a hint of its own.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }

// Unwrap returns the error without the hint.
func (e *hintedError) Unwrap() error { return e.err }

// alsoHinted adds a hint to an error, behind the one that it may have.
func alsoHinted(err error, hint string) error {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		hint = hinted.hint + "; " + hint
	}
	return &hintedError{err, hint}
}

// membersHint is where to look for the members that an order may be about.
const membersHint = "drmctl members lists those that are known"

// whereListed adds to an error that says that etcd does not have what a command is about where to look for what it has,
// unless the error has such a hint.
func whereListed(c *cli.Context, err error) error {
	var hinted *hintedError
	nouns := operands[commandName(c)]
	switch {
	case err == nil || errors.As(err, &hinted):
		return err
	case errors.Is(err, drm.ErrNoApp):
		return &hintedError{err, "drmctl apps lists those that there are; the first member makes an app, and so does " +
			"drmctl app create"}
	case unknown(err) && len(nouns) > 0 && nouns[0] == aResource && !c.IsSet(flagShard):
		return &hintedError{err, "drmctl resources lists those that there are"}
	}
	return err
}

// withGrant adds to an error that says that etcd denies something which permission a command about the app needs. A
// command that reads, and is denied something else, is an operator's.
func withGrant(c *cli.Context, role drm.DiagnoseRole, err error) error {
	var denied *reach.DeniedError
	if !errors.As(err, &denied) || errors.Is(err, rpctypes.ErrUserEmpty) {
		return err
	}
	kind := "read"
	switch reads := strings.HasPrefix(denied.What, "read "); {
	case role == drm.DiagnoseMember:
		kind = "readwrite"
	case !reads:
		kind, role = "readwrite", drm.DiagnoseOperator
	}
	root := keys.New(c.String(flagPrefix), c.String(flagApp)).Root()
	if commandName(c) == appsName { // all apps, and not the one that --app happens to name
		root = keys.Apps(c.String(flagPrefix))
	}
	return &hintedError{err, fmt.Sprintf("grant a role of the user %s below %q: "+
		"etcdctl role grant-permission ROLE %s --prefix=true %s; drmctl doctor --as %s tells what is missing",
		kind, root, kind, root, role)}
}
