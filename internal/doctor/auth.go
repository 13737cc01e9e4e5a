package doctor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/login"
)

// withToken adds the user's token to a request for which the connection does not: see package login.
func (r *run) withToken(ctx context.Context) context.Context {
	if r.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.token)
}

// leaderless says whether every endpoint that told its status knows of no leader. etcd can then check no user, and
// neither read nor write.
func (r *run) leaderless() bool {
	told := false
	for _, t := range r.targets {
		if t.status != nil {
			told = true
			if t.status.Leader != 0 {
				return false
			}
		}
	}
	return told
}

// votes says whether an endpoint that answers is, as far as known, a voting member. A learner serves next to nothing.
func (r *run) votes() bool {
	for _, t := range r.targets {
		if t.broken == nil && !t.status.GetIsLearner() {
			return true
		}
	}
	return false
}

// checkLogin finds out whether etcd accepts the user.
func checkLogin(ctx context.Context, r *run) {
	for _, unable := range []struct {
		is  bool
		of  Definition
		why string
	}{{r.leaderless(), leader, "etcd has no leader"}, {!r.votes(), learner, "the endpoint is a learner"}} {
		if unable.is {
			r.check(ctx, signIn, "", func(context.Context) finding { return skipped("%s", unable.why) })
			r.block("auth", because(unable.of))
			return
		}
	}
	f := r.check(ctx, signIn, "", r.signIn)
	if f.result == Fail {
		r.block("auth", because(signIn))
		return
	}
	r.learnRoles(ctx)
}

func (r *run) signIn(ctx context.Context) finding {
	if c := r.cfg.Etcd; c.Username != "" && c.Password != "" {
		return r.signInByPassword(ctx, c.Username, c.Password)
	}
	_, err := r.client.Get(ctx, r.cfg.root(), clientv3.WithKeysOnly())
	var who string
	if leaf := r.clientLeaf(); leaf != nil {
		who = called(leaf)
	}
	switch {
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return failure("give --user NAME and DRM_PASSWORD, or a client certificate with --cert and --key",
			"etcd wants to know the user, and none is given")
	case login.IsDenied(err) && who != "":
		return fine("the certificate names the user %q", who)
	case err != nil && !login.IsDenied(err):
		return failure(seeLog, "a read of %q failed: %v", r.cfg.root(), err)
	}
	on, err := r.client.AuthStatus(ctx)
	switch {
	case err != nil:
		return fine("no user is needed, or the certificate names one")
	case !on.Enabled:
		return fine("authentication is off: whoever reaches etcd may do everything")
	default:
		return fine("the certificate names the user %q", who)
	}
}

func (r *run) signInByPassword(ctx context.Context, user, password string) finding {
	resp, err := pb.NewAuthClient(r.client.ActiveConnection()).Authenticate(ctx,
		&pb.AuthenticateRequest{Name: user, Password: password})
	switch {
	case err == nil:
		r.token = resp.Token
		return fine("etcd accepts the user %q", user)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		return warning("turn authentication on (etcdctl auth enable), or leave out --user",
			"authentication is off, so that the user %q is ignored: whoever reaches etcd may do everything", user)
	case login.IsRefused(err):
		return failure("check --user, and DRM_PASSWORD or --password",
			"etcd refuses the user %q: there is no such user, or the password is wrong (etcd does not tell which)",
			user)
	default:
		return failure(seeLog, "the login of %q failed: %s", user,
			rpctypes.ErrorDesc(err))
	}
}

// learnRoles asks for the user's own roles, which etcd tells everybody about themselves. It is for messages only.
func (r *run) learnRoles(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	user := r.cfg.Etcd.Username
	if leaf := r.clientLeaf(); user == "" && leaf != nil {
		user = leaf.Subject.CommonName
	}
	if user == "" {
		return
	}
	resp, err := r.client.UserGet(ctx, user)
	if err != nil {
		return
	}
	r.roles = resp.Roles
	for _, role := range resp.Roles {
		granted, err := r.client.RoleGet(ctx, role)
		if err != nil {
			continue
		}
		for _, p := range granted.Perm {
			r.perms = append(r.perms, fmt.Sprintf("%s %s", strings.ToLower(p.PermType.String()), rangeOf(p)))
		}
	}
}

// rangeOf describes the keys of a permission.
func rangeOf(p *authpb.Permission) string {
	switch key, end := string(p.Key), string(p.RangeEnd); end {
	case "":
		return fmt.Sprintf("%q", key)
	case "\x00":
		return fmt.Sprintf("all from %q on", key)
	case clientv3.GetPrefixRangeEnd(key):
		return fmt.Sprintf("below %q", key)
	default:
		return fmt.Sprintf("from %q to %q", key, end)
	}
}

// checkPermissions finds out whether the user may do what the role does.
func checkPermissions(ctx context.Context, r *run) {
	root := r.cfg.root()
	f := r.check(ctx, reading, "", func(ctx context.Context) finding { return r.mayRead(ctx, root) })
	if f.result == Fail {
		r.block("permissions", because(reading))
	}
	r.check(ctx, writing, "", func(ctx context.Context) finding {
		switch {
		case r.cfg.As == Reader:
			return skipped("a reader writes nothing (--as operator or --as member)")
		case f.result == Fail:
			return skipped("%s", because(reading))
		}
		return r.mayWrite(ctx, root)
	})
}

// mayRead finds out whether a prefix may be read, without having etcd count what is there: it asks for a revision that
// there is not yet, and etcd checks the permission first.
func (r *run) mayRead(ctx context.Context, prefix string) finding {
	_, err := r.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1),
		clientv3.WithRev(math.MaxInt64))
	switch {
	case err == nil, errors.Is(err, rpctypes.ErrFutureRev):
		return fine("%s may read all keys below %q", r.whoever(), prefix)
	case login.IsDenied(err):
		return failure(r.grant("read", []string{prefix}), "%s must be allowed to read all keys below %q, and is not%s",
			r.whoever(), prefix, r.permitted())
	default:
		return failure(seeLog, "a read below %q failed: %v", prefix, err)
	}
}

// mayWrite finds out whether the role may write all that it does, and names the prefixes that are missing.
func (r *run) mayWrite(ctx context.Context, root string) finding {
	all, err := r.allowed(ctx, root)
	switch {
	case err != nil:
		return failure(seeLog, "asking for permissions below %q failed: %v", root, err)
	case all:
		return fine("%s may write all keys below %q", r.whoever(), root)
	case r.cfg.App == "":
		return failure(r.grant("readwrite", []string{root}), "%s must be allowed to write below %q, and is not%s",
			r.whoever(), root, r.permitted())
	}
	var missing []string
	needed := written(keys.New(r.cfg.Prefix, r.cfg.App), r.cfg.As)
	for _, key := range needed {
		may, err := r.allowed(ctx, key)
		if err != nil {
			return failure(seeLog, "asking for permissions below %q failed: %v", key, err)
		}
		if !may {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		if r.cfg.As == Operator {
			return fine("%s may write what orders and allocations are, and not everything below %q, as reshard, load "+
				"and app delete do", r.whoever(), root)
		}
		return fine("%s may write all that a member writes, though not everything below %q", r.whoever(), root)
	}
	if len(missing) == len(needed) {
		missing = []string{root}
	}
	return failure(r.grant("readwrite", missing), "%s must be allowed to write %s, and is not%s", r.whoever(),
		quoted(missing), r.permitted())
}

// allowed finds out whether a prefix, or a key, may be written. The comparison holds of no key, so nothing is ever
// deleted; but etcd checks the permissions of both branches first.
func (r *run) allowed(ctx context.Context, key string) (bool, error) {
	var range_ []clientv3.OpOption
	if strings.HasSuffix(key, "/") {
		range_ = append(range_, clientv3.WithPrefix())
	}
	_, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "<", 0)).
		Then(clientv3.OpDelete(key, range_...)).
		Commit()
	if login.IsDenied(err) {
		return false, nil
	}
	return err == nil, err
}

// written are the prefixes and keys that a role writes in an app.
func written(l keys.Layout, as Role) []string {
	if as == Member {
		return l.WrittenByMembers()
	}
	return l.WrittenByOperators()
}

// whoever names the user at the beginning of a sentence.
func (r *run) whoever() string {
	if r.cfg.Etcd.Username != "" {
		return fmt.Sprintf("the user %q", r.cfg.Etcd.Username)
	}
	if leaf := r.clientLeaf(); leaf != nil {
		return fmt.Sprintf("the certificate's user %q", called(leaf))
	}
	return "everybody"
}

// permitted tells what the user may do, as far as that is known.
func (r *run) permitted() string {
	switch {
	case len(r.roles) == 0:
		return ""
	case len(r.perms) == 0:
		return fmt.Sprintf("; its roles (%s) permit nothing", strings.Join(r.roles, ", "))
	}
	const most = 5
	some := r.perms
	if len(some) > most {
		some = append(slices.Clone(some[:most]), fmt.Sprintf("%d more", len(r.perms)-most))
	}
	return fmt.Sprintf("; its roles (%s) permit: %s", strings.Join(r.roles, ", "), strings.Join(some, ", "))
}

// grant is the command that grants what is missing.
func (r *run) grant(kind string, missing []string) string {
	role := "ROLE"
	if len(r.roles) > 0 {
		role = r.roles[0]
	}
	var commands []string
	for _, key := range missing {
		prefix := ""
		if strings.HasSuffix(key, "/") {
			prefix = " --prefix=true"
		}
		commands = append(commands, fmt.Sprintf("etcdctl role grant-permission %s %s%s %s", role, kind, prefix, key))
	}
	return strings.Join(commands, "; ")
}

func quoted(all []string) string {
	var texts []string
	for _, t := range all {
		texts = append(texts, fmt.Sprintf("%q", t))
	}
	return strings.Join(texts, ", ")
}
