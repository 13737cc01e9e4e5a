package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// App is the app that is dumped, loaded or deleted. All fields must be set but Origin.
type App struct {
	Client  *clientv3.Client
	Layout  keys.Layout
	Timeout time.Duration // of each request
	Origin  deed.Origin   // who loads or deletes it: the marker says so, of which events tell
}

// errOvertaken says that another process has taken over what this one was doing.
var errOvertaken = errors.New("another process has taken this over, or has finished it")

// mostTries is how often a request is made, at most, where etcd does not answer.
const mostTries = 4

// patiently makes a request that does no harm if it is made twice, and makes it again where etcd does not answer: one
// server that is restarted, or loses its leader, is no reason to give up what takes minutes.
func (a *App) patiently(ctx context.Context, request func(context.Context) error) error {
	for pauses, tries := pace.Retry(), 1; ; tries++ {
		asking, cancel := context.WithTimeout(ctx, a.Timeout)
		err := request(asking)
		cancel()
		if !etcd.IsUnreachable(err) || tries == mostTries || !pauses.Wait(ctx) {
			return err
		}
	}
}

// look reads what etcd says of the app and of what is being done to it.
func (a *App) look(ctx context.Context) (s appconfig.State, err error) {
	err = a.patiently(ctx, func(ctx context.Context) (err error) {
		s, err = appconfig.Look(ctx, a.Client, a.Layout)
		return err
	})
	return s, etcd.Unreachable(ctx, err)
}

// empty are all keys of the app besides the config, the marker, and the record of the last deed, which an app has that
// has nothing any more.
func (a *App) empty() []span {
	var all []span
	for _, s := range a.besides() {
		if key := a.Layout.Deed(); s.from <= key && key < s.end {
			all = append(all, span{s.from, key}, span{key + "\x00", s.end})
		} else {
			all = append(all, s)
		}
	}
	return all
}

// same compares that the state is as it was read.
func (a *App) same(s appconfig.State) []clientv3.Cmp {
	return []clientv3.Cmp{s.SameConfig(a.Layout), s.SameMarker(a.Layout)}
}

// nothingIn compares that there is no key in some ranges.
func nothingIn(spans []span) []clientv3.Cmp {
	var all []clientv3.Cmp
	for _, s := range spans {
		all = append(all, clientv3.Compare(clientv3.CreateRevision(s.from), "=", 0).WithRange(s.end))
	}
	return all
}

// span is a range of keys, from one up to another that is not in it.
type span struct{ from, end string }

// besides are all keys of the app besides the config and the marker.
func (a *App) besides() []span {
	root, config, marker := a.Layout.Root(), a.Layout.Config(), a.Layout.Reshard()
	return []span{{root, config}, {config + "\x00", marker}, {marker + "\x00", clientv3.GetPrefixRangeEnd(root)}}
}

// step makes one step. done is false if its conditions did not hold: then nothing was written, and a look shows why.
func (a *App) step(ctx context.Context, what string, cmps []clientv3.Cmp, ops ...clientv3.Op) (done bool, err error) {
	asking, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	resp, err := a.Client.Txn(asking).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return false, etcd.Unreachable(ctx, fmt.Errorf("%s: %w", what, err))
	}
	if !resp.Succeeded {
		return false, ctx.Err()
	}
	return true, nil
}

// hold keeps everybody else out of the app, for a task. begin is asked whether the task may begin, if nothing is in
// progress yet; it returns what has to be true for that at the moment when it begins. hold returns the marker.
//
// An interrupted deletion is continued, a load is begun anew, and a deletion takes over from a load: all of them hold
// the app already. A load takes the marker of an interrupted one away, so that a process that still writes for that
// one stops.
func (a *App) hold(
	ctx context.Context, task appconfig.Task, begin func(context.Context, appconfig.State) ([]clientv3.Cmp, error),
) (*mvccpb.KeyValue, error) {
	mine := appconfig.TaskMarker(task, rand.Text(), a.Origin.At(time.Now()))
	put := clientv3.OpPut(a.Layout.Reshard(), mine)
	for {
		s, err := a.look(ctx)
		if err != nil {
			return nil, err
		}
		barrier := appconfig.BarrierOf(s.Config.GetValue())
		other, err := a.inProgress(s, barrier)
		if err != nil {
			return nil, err
		}
		switch {
		case other != "" && other != task && task != appconfig.Deleting:
			return nil, &appconfig.TaskError{Task: other}
		case other == "":
			var cmps []clientv3.Cmp
			if cmps, err = begin(ctx, s); err != nil {
				return nil, err
			}
			ops := []clientv3.Op{put}
			if s.Config != nil {
				ops = append(ops, clientv3.OpDelete(a.Layout.Config()))
			}
			cmps = append(append(a.same(s), appconfig.NoMembers(a.Layout)), cmps...)
			_, err = a.step(ctx, "keep others out", cmps, ops...)
		case s.Marker == nil:
			_, err = a.step(ctx, "take over", a.same(s), put)
		case barrier == "" && s.Config == nil:
			_, err = a.step(ctx, "put the barrier", a.same(s),
				clientv3.OpPut(a.Layout.Config(), appconfig.TaskBarrier(task)))
		case barrier == "": // a member that knows no barriers was started in the moment without a config
			if err = a.idle(ctx); err == nil {
				_, err = a.step(ctx, "take the config away", append(a.same(s), appconfig.NoMembers(a.Layout)),
					clientv3.OpDelete(a.Layout.Config()))
			}
		case other != task:
			_, err = a.step(ctx, "take over", a.same(s), put)
		case task == appconfig.Loading && string(s.Marker.Value) != mine:
			_, err = a.step(ctx, "take over", a.same(s), clientv3.OpDelete(a.Layout.Reshard()))
		default:
			return s.Marker, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// inProgress returns the task that is in progress; "": none. It is an error if something else is.
func (a *App) inProgress(s appconfig.State, barrier appconfig.Task) (appconfig.Task, error) {
	if s.Marker == nil && barrier == "" {
		return "", nil
	}
	var err error = &appconfig.TaskError{Task: barrier}
	if s.Marker != nil {
		err = appconfig.Unfinished(s.Marker.Value)
	}
	var task *appconfig.TaskError
	if errors.As(err, &task) && (task.Task == appconfig.Deleting || task.Task == appconfig.Loading) {
		return task.Task, nil
	}
	return "", err
}

// guards are what every write compares.
func (a *App) guards(marker *mvccpb.KeyValue) txn.Guards {
	return txn.Guards{{Key: a.Layout.Reshard(), Created: marker.CreateRevision}}
}

// release lets others use the app again. With shards above 0 the app then exists, and else there is nothing of it. It
// returns false if there is anything left that should not be there.
func (a *App) release(ctx context.Context, marker *mvccpb.KeyValue, shards int) (done bool, err error) {
	s, err := a.look(ctx)
	if err != nil {
		return false, err
	}
	if s.Marker.GetCreateRevision() != marker.CreateRevision {
		return false, errOvertaken
	}
	if shards == 0 {
		return a.step(ctx, "let go of the app", append(a.same(s), nothingIn(a.besides())...),
			clientv3.OpDelete(a.Layout.Config()), clientv3.OpDelete(a.Layout.Reshard()))
	}
	if s.Config != nil { // one transaction cannot delete a key and put it; the marker keeps others out meanwhile
		done, err = a.step(ctx, "take the barrier away", append(a.same(s), appconfig.NoMembers(a.Layout)),
			clientv3.OpDelete(a.Layout.Config()))
		if err != nil || !done {
			return false, err
		}
		s.Config = nil
	}
	return a.step(ctx, "put the config", append(a.same(s), appconfig.NoMembers(a.Layout)),
		clientv3.OpPut(a.Layout.Config(), appconfig.Encode(shards)), clientv3.OpDelete(a.Layout.Reshard()))
}
