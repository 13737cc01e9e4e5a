package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// appFacts are what is known of the app.
type appFacts struct {
	leases []clientv3.LeaseID // of live members
}

const needsApp = "needs an app (--app)"

// checkApp finds out whether the app is there, and whether this program understands it.
func checkApp(ctx context.Context, r *run) {
	if r.cfg.App == "" {
		for _, d := range definitionsOf("app") {
			r.check(ctx, d, "", func(context.Context) finding { return skipped(needsApp) })
		}
		r.block("app", needsApp)
		return
	}
	layout := keys.New(r.cfg.Prefix, r.cfg.App)
	var config appconfig.Config
	var err error
	f := r.check(ctx, appExists, "", func(ctx context.Context) finding {
		config, err = appconfig.Read(ctx, r.client, layout)
		switch {
		case !errors.Is(err, appconfig.ErrNoApp):
			return fine("there is an app %q at prefix %q", r.cfg.App, r.cfg.Prefix)
		case r.cfg.As == Member:
			return fine("there is no app %q at prefix %q yet; its first member makes it", r.cfg.App, r.cfg.Prefix)
		}
		return failure("is --app right? The first member makes an app, or drmctl allocate --create",
			"there is no app %q at prefix %q", r.cfg.App, r.cfg.Prefix)
	})
	if f.result == Fail || errors.Is(err, appconfig.ErrNoApp) {
		r.block("app", fmt.Sprintf("there is no app %q", r.cfg.App))
		for _, d := range []Definition{appConfig, schemas} {
			r.check(ctx, d, "", func(context.Context) finding { return skipped("there is no app %q", r.cfg.App) })
		}
		return
	}
	f = r.check(ctx, appConfig, "", func(context.Context) finding { return judgeConfig(config, err) })
	r.check(ctx, schemas, "", func(ctx context.Context) finding {
		if f.result == Fail {
			return skipped("%s", because(appConfig))
		}
		reader := &picture.Reader{Client: r.client, Layout: layout, Shards: config.Shards, Timeout: r.cfg.Timeout}
		view, err := reader.Group(ctx)
		if err != nil {
			return failure(seeLog, "%v", err)
		}
		if apart := picture.SchemasOf(view); apart != "" {
			return failure("upgrade as docs/upgrade.md says", "versions are too far apart: %s", apart)
		}
		return fine("members and this program understand each other; %d members live", len(view.Members))
	})
	r.findLeases(ctx, layout)
}

func judgeConfig(config appconfig.Config, err error) finding {
	var newer *appconfig.SchemaError
	var changing *appconfig.ReshardError
	switch {
	case err == nil:
		return fine("the app has %d shards", config.Shards)
	case errors.As(err, &newer):
		action := "put back the key as it was created"
		if newer.Has > appconfig.Schema {
			action = "use the drmctl of the version that the members have"
		}
		return failure(action, "%v", err)
	case errors.As(err, &changing):
		return failure("run drmctl reshard again with the same number, until it is done", "%v", err)
	case errors.Is(err, appconfig.ErrRewritten):
		return failure("stop all members, delete the key, and start them with the number of shards that they had",
			"%v", err)
	default:
		return failure("see the key that makes the app exist (etcdctl get)", "%v", err)
	}
}

// mostLeases is how many leases of members are looked at.
const mostLeases = 20

// findLeases finds the leases of some live members.
func (r *run) findLeases(ctx context.Context, layout keys.Layout) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	resp, err := r.client.Get(ctx, layout.Members(), clientv3.WithPrefix()) // of keys only, etcd 3.7 tells no leases
	if err != nil {
		return // the categories that need leases say that there are none
	}
	for _, kv := range resp.Kvs {
		if kv.Lease != 0 && len(r.app.leases) < mostLeases {
			r.app.leases = append(r.app.leases, clientv3.LeaseID(kv.Lease))
		}
	}
}

const needsMember = "needs a live member, whose lease can be looked at"

// checkTTL looks at how long the leases of members live. etcd tells neither its shortest lease nor its election
// timeout, but it grants no lease that is shorter than one and a half of that.
func checkTTL(ctx context.Context, r *run) {
	r.check(ctx, leaseTTL, "", func(ctx context.Context) finding {
		var ttls []int64
		for _, id := range r.app.leases {
			resp, err := r.client.TimeToLive(ctx, id)
			if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) || err == nil && resp.GrantedTTL == 0 {
				continue // its member has ended meanwhile
			}
			if err != nil {
				return skipped("the lease of a member cannot be looked at: %v", err)
			}
			ttls = append(ttls, resp.GrantedTTL)
		}
		return judgeTTL(ttls)
	})
}

// longTTL is a lease in seconds that makes others wait long for what a dead member has: many times the default of 5 s.
const longTTL = 60

func judgeTTL(ttls []int64) finding {
	if len(ttls) == 0 {
		return skipped(needsMember)
	}
	least, most := slices.Min(ttls), slices.Max(ttls)
	text := fmt.Sprintf("leases of members live %d s", least)
	if least != most {
		text = fmt.Sprintf("leases of members live %d s to %d s", least, most)
	}
	bound := fmt.Sprintf("etcd's election timeout is at most %s", brief(time.Duration(least)*time.Second*2/3))
	switch {
	case most > longTTL:
		return warning("lower --lease-ttl; if the log of the member says that etcd granted more than was asked for, "+
			"lower etcd's --election-timeout",
			"%s: for so long nobody takes over what a dead member has; %s", text, bound)
	case least != most:
		return warning("give all members the same --lease-ttl; the log of a member says if it was granted more",
			"%s: members are taken for dead after different times; %s", text, bound)
	}
	return fine("%s; %s", text, bound)
}
