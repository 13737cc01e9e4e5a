// Package reshard changes the number of shards of an app all of whose members have stopped.
//
// What lies below a shard is moved in place, key by key: it is at the new place before it goes from the old one, and
// where it belongs follows from its id alone. So a change that was interrupted anywhere can simply be continued. The
// key reshard says which change that is, how far it is, and what there was before. While it is there, nobody can open
// the app: the config key, too, has a value that no member accepts, also none of an older version.
package reshard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Job changes the number of shards of one app. All fields must be set, unless their comments say otherwise.
type Job struct {
	Client  *clientv3.Client
	Layout  keys.Layout   // of the app
	Timeout time.Duration // of each request
	To      int           // the number of shards that the app is to have, 1 to keys.MaxShards
	// Wait makes Run wait for what ends by itself: claims and reservations of members that have ended.
	Wait bool
	// Unverified makes Run finish a change although etcd does not have what it had when the change began.
	Unverified bool
	// Origin is who begins the change, and why: the key that says how far it is says that too. It may be zero.
	Origin deed.Origin

	limits txn.Limits
	wrote  func(what string) error // tests interrupt a change after each write; nil otherwise
	report Report
	state  state
}

// Report is what a change has done.
type Report struct {
	From, To    int
	Resources   int      // catalogue entries, also those that are suspended
	Quarantined int      // records of quarantine
	Trailed     int      // what trails name
	Moved       int      // how many keys this Run has moved to another shard
	Dropped     []string // what was by shard and has no meaning any more, for people
	Ignored     int      // keys below shards that are not understood; they stay where they are
}

// stage says how far a change is.
type stage string

const (
	counting  stage = "counting"  // nothing has been moved
	moving    stage = "moving"    // some of it may have been moved
	finishing stage = "finishing" // everything is where it belongs; only the config is missing
)

// progress is the value of the key that says how far a change is.
type progress struct {
	From  int   `json:"from"`
	To    int   `json:"to"`
	Stage stage `json:"stage"`
	// Shards is how many shards the app will have: To, or From if the change was given up before anything was moved.
	Shards  int      `json:"shards,omitempty"`
	Census  census   `json:"census,omitzero"` // what there was before, from the stage moving on
	Dropped []string `json:"dropped,omitempty"`

	deed.Deed
}

// state is what etcd says of a change.
type state struct {
	appconfig.State // without a Marker, no change is in progress

	progress progress // what the Marker says
}

// Run changes the number of shards, or continues the change that was interrupted. After an error, the app is as it was
// or, where nobody can open it (appconfig.ErrResharding), calling Run again finishes the change.
//
// Errors: appconfig.ErrNoApp; appconfig.ErrRewritten and others of a config that is not understood; ErrSame;
// *InUseError; *ClaimsError; *StrayError; *DiffersError; *appconfig.ReshardError if another change is in progress; an
// error that matches etcd.ErrUnreachable.
func (j *Job) Run(ctx context.Context) (Report, error) {
	if j.To < 1 || j.To > keys.MaxShards {
		return Report{}, fmt.Errorf("%d shards, want 1 to %d", j.To, keys.MaxShards)
	}
	var why error // why the change was given up
	for last := (progress{}); ; last = j.state.progress {
		if err := j.look(ctx); err != nil {
			return j.report, err
		}
		p := j.state.progress
		if j.state.Marker != nil {
			if p.To != j.To {
				return j.report, &appconfig.ReshardError{From: p.From, To: p.To}
			}
			j.report.From, j.report.To, j.report.Dropped = p.From, p.To, p.Dropped
			j.report.count(p.Census)
		}
		var err error
		switch {
		case j.state.Marker == nil && (why != nil || last.Shards == j.To):
			return j.report, why
		case j.state.Marker == nil:
			err = j.begin(ctx)
		case p.Stage == finishing:
			err = j.finish(ctx)
		case !j.barred():
			err = j.bar(ctx)
		case p.Stage == counting:
			if why, err = j.count(ctx); err == nil && why != nil {
				p.Stage, p.Shards = finishing, p.From
				err = j.save(ctx, p)
			}
		default:
			err = j.move(ctx)
		}
		if err != nil {
			return j.report, etcd.Unreachable(ctx, err)
		}
	}
}

// look reads what etcd says of the change.
func (j *Job) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	s, err := appconfig.Look(asking, j.Client, j.Layout)
	if err != nil {
		return etcd.Unreachable(ctx, err)
	}
	j.state = state{State: s}
	if s.Marker == nil {
		return nil
	}
	if task := (*appconfig.TaskError)(nil); errors.As(appconfig.Unfinished(s.Marker.Value), &task) {
		return task
	}
	if err := json.Unmarshal(s.Marker.Value, &j.state.progress); err != nil {
		return fmt.Errorf("%w: key %q: %w", &appconfig.ReshardError{}, j.Layout.Reshard(), err)
	}
	return nil
}

// barred says whether the config has the barrier of this change.
func (j *Job) barred() bool {
	p := j.state.progress
	return j.state.Config != nil && string(j.state.Config.Value) == appconfig.Barrier(p.From, p.To)
}

// begin begins a change: it deletes the config, so that no client that has opened the app before writes anything any
// more. No member is registered at that moment, and none can register afterwards.
func (j *Job) begin(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	config, err := appconfig.Read(asking, j.Client, j.Layout)
	switch {
	case err != nil:
		return err
	case config.Shards == j.To:
		return fmt.Errorf("%w: %d", ErrSame, j.To)
	}
	if err := j.idle(ctx, config.Shards); err != nil {
		return err
	}
	p := progress{From: config.Shards, To: j.To, Stage: counting, Deed: j.Origin.At(time.Now())}
	return j.step(ctx, "begin",
		[]clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(j.Layout.Config()), "=", config.CreateRevision),
			clientv3.Compare(clientv3.CreateRevision(j.Layout.Reshard()), "=", 0),
			appconfig.NoMembers(j.Layout),
		},
		clientv3.OpDelete(j.Layout.Config()), clientv3.OpPut(j.Layout.Reshard(), p.encode()))
}

// bar puts the barrier in place of the config. A config that is there instead is that of a member which knows no
// barriers, and was started in the moment without a config; it is deleted once that member has ended.
func (j *Job) bar(ctx context.Context) error {
	p := j.state.progress
	if j.state.Config != nil {
		return j.unbar(ctx)
	}
	return j.step(ctx, "bar", append(j.unchanged(), j.noConfig()),
		clientv3.OpPut(j.Layout.Config(), appconfig.Barrier(p.From, p.To)))
}

// unbar deletes what is in place of the config.
func (j *Job) unbar(ctx context.Context) error {
	cmps := append(j.unchanged(), j.state.SameConfig(j.Layout))
	if !j.barred() {
		if err := j.idle(ctx, 0); err != nil {
			return err
		}
		cmps = append(cmps, appconfig.NoMembers(j.Layout))
	}
	return j.step(ctx, "unbar", cmps, clientv3.OpDelete(j.Layout.Config()))
}

// finish deletes the barrier, and then creates the config.
func (j *Job) finish(ctx context.Context) error {
	if j.state.Config != nil {
		return j.unbar(ctx)
	}
	return j.step(ctx, "finish", append(j.unchanged(), j.noConfig()),
		clientv3.OpPut(j.Layout.Config(), appconfig.Encode(j.state.progress.Shards)),
		clientv3.OpDelete(j.Layout.Reshard()))
}

// noConfig compares that there is no config.
func (j *Job) noConfig() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(j.Layout.Config()), "=", 0)
}

// unchanged compares the key that says how far the change is.
func (j *Job) unchanged() []clientv3.Cmp {
	return []clientv3.Cmp{j.state.SameMarker(j.Layout)}
}

// save writes how far the change is.
func (j *Job) save(ctx context.Context, p progress) error {
	return j.step(ctx, "save "+string(p.Stage), j.unchanged(), clientv3.OpPut(j.Layout.Reshard(), p.encode()))
}

func (p progress) encode() string {
	b, err := json.Marshal(p)
	if err != nil { // texts and numbers can always be marshalled
		panic(err)
	}
	return string(b)
}

// step makes one step of the change. Where its conditions do not hold, it does nothing, and the next look shows why.
func (j *Job) step(ctx context.Context, what string, cmps []clientv3.Cmp, ops ...clientv3.Op) error {
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	resp, err := j.Client.Txn(asking).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("change the number of shards: %s: %w", what, err)
	}
	if !resp.Succeeded {
		return ctx.Err()
	}
	return j.written(what)
}

func (j *Job) written(what string) error {
	if j.wrote == nil {
		return nil
	}
	return j.wrote(what)
}

// guards are the keys that must be as they are for a key to be moved: a process that was stopped for a while writes
// nothing into an app that members use again.
func (j *Job) guards() txn.Guards {
	return txn.Guards{{Key: j.Layout.Reshard(), Created: j.state.Marker.GetCreateRevision()}}
}

// errOvertaken says that another process has finished the change.
var errOvertaken = errors.New("another process has changed or finished this change of the number of shards")
