package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

// ErrNotEmpty says that an app has something already, so that no dump can be loaded into it.
var ErrNotEmpty = errors.New(
	"the app is not empty: a dump is loaded into an app that does not exist, or has nothing yet")

const (
	// inFlight is how many transactions are in progress at once.
	inFlight = 4
	// batchBytes bounds what one transaction writes. It is below etcd's default limit of 1.5 MiB for a request.
	batchBytes = 1 << 20
)

// LoadOptions says how a dump is loaded.
type LoadOptions struct {
	DryRun      bool // write nothing
	WithoutData bool // of a dump without data, load resources that have nothing but their ids
	Now         time.Time
}

// Loaded is what a load has restored, or would restore.
type Loaded struct {
	Header    Header
	Resources int // entries of the catalogue
	Orders    int // drains, cordons, weights, pins, moves of shards and of resources
	Others    int // records of quarantine, reservations of slots, exceptions, marks, the record of the source
	Left      int // keys that are not restored: what lives on a lease, and what is about the members' processes
	Ignored   int // keys that are not understood, or lie where they do not belong
}

// Load makes an app of a dump. It restores all or nothing: if the dump is not whole, there is no app afterwards, as
// before. While it is in progress, nobody can open the app.
//
// Errors: a *DumpError; ErrRedacted; ErrNotEmpty; *InUseError; *appconfig.TaskError while the app is being deleted;
// *appconfig.ReshardError; an error that matches etcd.ErrUnreachable, after which nobody can open the app until Load,
// or Delete, is called again.
func (a *App) Load(ctx context.Context, in io.Reader, opts LoadOptions) (Loaded, error) {
	r, err := newReader(in, a.Layout)
	if err != nil {
		return Loaded{}, err
	}
	if !r.header.Data && !opts.WithoutData {
		return Loaded{Header: r.header}, r.wrong(ErrRedacted)
	}
	l := load{App: a, reader: r, opts: opts, done: Loaded{Header: r.header}}
	if opts.DryRun {
		s, err := a.look(ctx)
		if err == nil {
			var other appconfig.Task
			if other, err = a.inProgress(s, appconfig.BarrierOf(s.Config.GetValue())); err == nil && other == "" {
				_, err = l.mayLoad(ctx, s)
			}
		}
		if err == nil {
			err = l.restore(ctx, func([]put) error { return nil })
		}
		return l.done, err
	}
	if l.marker, err = a.hold(ctx, appconfig.Loading, l.mayLoad); err != nil {
		return l.done, err
	}
	err = a.wipe(ctx, l.marker, func(int64) {}) // what an interrupted load has left
	if err == nil {
		err = l.write(ctx)
	}
	if errors.As(err, new(*DumpError)) {
		return l.done, l.undo(ctx, err)
	}
	if err == nil {
		err = l.finish(ctx)
	}
	return l.done, closed(err, appconfig.Loading)
}

// closed adds to an error that nobody can open the app now, and what to do about it.
func closed(err error, task appconfig.Task) error {
	if err == nil || errors.Is(err, errOvertaken) {
		return err
	}
	return fmt.Errorf("%w; %w", err, &appconfig.TaskError{Task: task})
}

// finish lets members and clients use the app.
func (l *load) finish(ctx context.Context) error {
	for {
		released, err := l.release(ctx, l.marker, l.header.Shards)
		if err != nil || released {
			return err
		}
		if err := l.idle(ctx); err != nil { // a member that knows no barriers was started in between
			return err
		}
	}
}

// load is a load in progress.
type load struct {
	*App
	*reader

	opts   LoadOptions
	done   Loaded
	marker *mvccpb.KeyValue
	limits txn.Limits
	had    int // how many shards the empty app had; 0: there was none
}

// mayLoad says whether a load may begin.
func (l *load) mayLoad(ctx context.Context, s appconfig.State) ([]clientv3.Cmp, error) {
	l.had = 0
	if s.Config != nil {
		config, err := appconfig.Decode(s.Config.Value)
		if err != nil {
			return nil, err
		}
		if l.had = config.Shards; l.had != l.header.Shards {
			return nil, fmt.Errorf("%w; it has %d shards besides, and the dump %d", ErrNotEmpty, l.had, l.header.Shards)
		}
	}
	any, err := l.any(ctx, l.empty())
	if err == nil && any {
		err = ErrNotEmpty
	}
	return nothingIn(l.empty()), err
}

// undo makes the app what it was before the load, since the dump turned out to be no good.
func (l *load) undo(ctx context.Context, why error) error {
	err := l.wipe(ctx, l.marker, func(int64) {})
	if err == nil {
		_, err = l.release(ctx, l.marker, l.had)
	}
	if err != nil {
		return closed(fmt.Errorf("%w; and what was loaded could not be deleted: %w", why, err), appconfig.Loading)
	}
	return why
}

// put is a key that is written.
type put struct {
	key   string
	value []byte
}

// write writes what is restored.
func (l *load) write(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	err := l.restore(gctx, func(batch []put) error {
		group.Go(func() error { return l.send(gctx, batch) })
		return gctx.Err()
	})
	if failed := group.Wait(); failed != nil { // it is why the context has ended
		return failed
	}
	return err
}

// restore reads the dump, and calls write with batches of what is restored.
func (l *load) restore(ctx context.Context, write func([]put) error) error {
	var batch []put
	size := 0
	for {
		line, ok, err := l.read()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		value, restored, err := l.valueOf(line)
		if err != nil {
			return l.wrong(err)
		}
		if !restored {
			continue
		}
		p := put{l.Layout.Root() + line.Key, value}
		if size += p.size(); len(batch) > 0 && (size > batchBytes || len(batch) == txn.UsualOps-2) {
			if err := write(batch); err != nil {
				return err
			}
			batch, size = nil, p.size()
		}
		batch = append(batch, p)
	}
	if len(batch) == 0 {
		return nil
	}
	return write(batch)
}

func (p *put) size() int { return len(p.key) + len(p.value) + 50 }

// valueOf returns the value that a key gets. restored is false if the key is not restored.
func (l *load) valueOf(line Line) (value []byte, restored bool, err error) {
	key := l.kind(line)
	count := &l.done.Others
	switch key.Kind {
	case keys.Foreign:
		l.done.Ignored++
		return nil, false, nil
	case keys.Resource, keys.Quarantine:
		if key.Home(l.header.Shards) != key.Number {
			l.done.Ignored++
			return nil, false, nil
		}
		if key.Kind == keys.Resource {
			count = &l.done.Resources
		}
	case keys.Drain, keys.Cordon, keys.Weight, keys.Pin, keys.Move:
		count = &l.done.Orders
	case keys.Exception:
		if isMove(line) {
			count = &l.done.Orders
		}
	case keys.Slot, keys.Block, keys.Placement, keys.Schema, keys.Deallocation, keys.Source:
	case keys.Config, keys.Reshard, keys.Deed: // the app that is made says whose it is itself
		return nil, false, nil
	default:
		l.done.Left++
		return nil, false, nil
	}
	if line.Lease != "" {
		l.done.Left++
		return nil, false, nil
	}
	if value, err = line.bytesOf(); err != nil {
		return nil, false, err
	}
	switch {
	case key.Kind == keys.Resource && line.Redacted != nil:
		value, err = l.withoutData(key.ID, value)
	case key.Kind == keys.Resource:
		if _, err := catalogue.DecodeOf(key.ID, value); err != nil { // nobody would understand it
			l.done.Ignored++
			return nil, false, nil //nolint:nilerr // it is counted
		}
	case key.Kind == keys.Source:
		value, restored = l.source(value)
		if !restored {
			l.done.Ignored++
			return nil, false, nil
		}
	}
	*count++
	return value, err == nil, err
}

// isMove says whether an exception is there because an operator has moved the shard.
func isMove(line Line) bool {
	var e struct {
		Why string `json:"why"`
	}
	return json.Unmarshal(line.Value, &e) == nil && e.Why == string(membership.WhyMove)
}

// withoutData is a redacted entry of a resource that has nothing but its id.
func (l *load) withoutData(id string, value []byte) ([]byte, error) {
	var e catalogue.Entry
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, err
	}
	e.Data = object.WithID(nil, id)
	return e.Encode(), nil
}

// source is the record of the source without what is about the other app: its revisions mean nothing here, and neither
// does how long the source has been gone.
func (l *load) source(value []byte) ([]byte, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return nil, false
	}
	for _, name := range []string{"attempt_revision", "accepted", "vouched_by", "alone_ms", "held", "held_removals"} {
		delete(fields, name)
	}
	if fields["vouched_at"] != nil {
		now, err := json.Marshal(l.opts.Now.UTC())
		if err != nil {
			return nil, false
		}
		fields["vouched_at"] = now
	}
	b, err := json.Marshal(fields)
	return b, err == nil
}

// send writes a batch.
func (l *load) send(ctx context.Context, batch []put) (err error) {
	committer := txn.New(l.Client)
	sender := txn.Sender[put]{
		Commit: func(req *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
			err = l.patiently(ctx, func(ctx context.Context) (err error) {
				resp, err = committer.Commit(ctx, req)
				return err
			})
			return resp, err
		},
		Limits: &l.limits, Guards: l.guards(l.marker), By: pb.Compare_MOD, MaxOps: txn.UsualOps, MaxBytes: batchBytes,
		Write: func(p *put) txn.Write { return txn.Write{Key: p.key, Any: true} },
		Value: func(p *put) []byte { return p.value },
		Size:  (*put).size,
		Done:  func(*put, txn.Outcome) {},
		Failed: func(part []put, failure error) bool {
			err = fmt.Errorf("write %q: %w", part[0].key, etcd.Unreachable(ctx, failure))
			if errors.As(failure, new(*txn.GuardError)) {
				err = errOvertaken
			}
			return false
		},
	}
	sender.Send(batch)
	return err
}
