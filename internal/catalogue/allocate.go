package catalogue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// Errors of writes to the catalogue.
var (
	// ErrNotFound says that there is no such resource, or that it was deallocated already.
	ErrNotFound = errors.New("no such resource")
	// ErrAppGone says that the app's config key is not the one that the Store has. Nothing was written.
	ErrAppGone = appconfig.ErrGone
	// ErrTooLarge says that a resource does not fit into one request to etcd.
	ErrTooLarge = txn.ErrTooLarge
	// ErrDeposed says that the coordinator's key is not the one that the Sync has.
	ErrDeposed = errors.New("not the coordinator any more")
)

// Store is an app's catalogue in etcd. Its fields must not change once it is in use; it is safe for concurrent use.
type Store struct {
	Etcd    txn.Committer
	Layout  keys.Layout
	Shards  int
	Config  int64         // the create revision of the app's config key
	Timeout time.Duration // bounds each request; default 5 s
	Limits  *txn.Limits   // what is known of etcd's limits
	Quota   Quota         // what Allocate may put into the catalogue; default: anything

	// Origin is who makes the changes, and why: each change writes that along, unless it is zero.
	Origin deed.Origin

	Wall func() time.Time // the time by which a source is judged to be gone, days after; default time.Now
}

// Item is a resource as a source gives it.
type Item struct {
	ID   string
	Data json.RawMessage // a JSON object
}

func (s *Store) key(id string) string { return s.Layout.Resource(shard.Of(id, s.Shards), id) }

// ask sends a transaction. Timeout bounds it.
func (s *Store) ask(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, 5*time.Second))
	defer cancel()
	return s.Etcd.Commit(ctx, req)
}

// commit is ask, and also learns of etcd's limits.
func (s *Store) commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := s.ask(ctx, req)
	if err != nil {
		err = tooLarge(s.Limits.TooMany(err, req))
	}
	return resp, err
}

// inParts sends operations in as few transactions as etcd takes.
func inParts[T any](s *Store, all []T, send func(part []T) error) error {
	for most := len(all); len(all) > 0; {
		n := min(most, s.mostWrites(), len(all))
		switch err := send(all[:n]); {
		case err == nil:
			all = all[n:]
		case n > 1 && txn.Divisible(err):
			most = (n + 1) / 2
		default:
			return err
		}
	}
	return nil
}

// mostWrites is how many entries fit into one transaction, as far as is known: the guards take two comparisons, and a
// nested transaction counts in addition to the outer one.
func (s *Store) mostWrites() int { return max(1, s.Limits.Ops()-2) }

// guards are the comparisons of every write. They make sure that nothing is written to an app that was deleted, or was
// deleted and created again.
func (s *Store) guards() txn.Guards {
	return txn.Guards{{Key: s.Layout.Config(), Created: s.Config}}
}

// Allocate makes an allocation want a resource, and wakes a resource that was deallocated, but not one that an operator
// has suspended. ownData says that the data
// is the allocation's own. Without it an existing entry keeps its data, unless the data was left by an allocation that
// has ended. Allocate returns the revision at which etcd has the resource.
//
// Errors: ErrAppGone; ErrTooLarge; a *QuotaError, and then nothing was written; etcd's, after which the resource may or
// may not have been written.
func (s *Store) Allocate(ctx context.Context, item Item, ownData bool) (int64, error) {
	rev, err := s.change(ctx, item.ID, func(old *Entry, corrupt bool, _ *mvccpb.KeyValue) (*Entry, error) {
		if err := s.admits(ctx, item.Data, old == nil && !corrupt); err != nil {
			return nil, err
		}
		return wanted(item, ownData, old), nil
	})
	if err != nil {
		return 0, fmt.Errorf("allocate %q: %w", item.ID, err)
	}
	return rev, nil
}

// wanted is what an allocation makes of an entry; nil: there is none.
func wanted(item Item, ownData bool, old *Entry) *Entry {
	e := Entry{Allocated: true, OwnData: ownData, Data: item.Data}
	if old != nil {
		e.FromSource = old.FromSource
		if !ownData && (e.FromSource || !old.deallocated()) {
			e.Data, e.OwnData = old.Data, old.OwnData
		}
		if e.Suspension = old.Suspension; e.Suspension != nil {
			e.Suspended = true
		}
	}
	return &e
}

// deallocated says whether the entry is there only so that the source does not bring the resource back.
func (e *Entry) deallocated() bool { return e.Suspended && e.Suspension == nil }

// Deallocate takes a resource out of the catalogue, also one that an operator has suspended. It deletes the entry, or
// suspends it if the source has the id, or if there is a source that may have it. A source that is gone has nothing any
// more. Deallocate also removes an entry that cannot be read. It returns the revision at which the resource is out.
//
// Errors: ErrNotFound if there is nothing to take out; ErrAppGone; etcd's, after which it may or may not have been
// done.
func (s *Store) Deallocate(ctx context.Context, id string) (int64, error) {
	rev, err := s.change(ctx, id, func(old *Entry, corrupt bool, record *mvccpb.KeyValue) (*Entry, error) {
		return s.unwanted(ctx, id, old, corrupt, record)
	})
	if err != nil {
		return 0, fmt.Errorf("deallocate %q: %w", id, err)
	}
	return rev, nil
}

// unwanted is what a deallocation makes of an entry; nil: there is to be none.
func (s *Store) unwanted(
	ctx context.Context, id string, old *Entry, corrupt bool, record *mvccpb.KeyValue,
) (*Entry, error) {
	if corrupt {
		old = &Entry{Data: idAlone(id)}
	}
	if old == nil || old.deallocated() {
		return nil, ErrNotFound
	}
	switch source, err := s.standing(ctx, record); {
	case err != nil:
		return nil, err
	case source == there || source == none && old.FromSource: // the record may have been deleted by hand
		return &Entry{FromSource: old.FromSource, Suspended: true, Data: old.Data}, nil
	default:
		return nil, nil
	}
}

// idAlone is the object of a resource of which only the id is known.
func idAlone(id string) json.RawMessage {
	b, err := jsontext.Marshal(map[string]string{"id": id})
	if err != nil { // a string can always be marshalled
		panic(err)
	}
	return b
}

// errUnchanged says that an entry is to stay as it is.
var errUnchanged = errors.New("unchanged")

// change reads an entry and the source's record, and writes what next makes of them (nil deletes the entry), unless
// that returns an error. It repeats this until nobody else wrote in between. For a corrupt entry old is nil and corrupt
// is true.
func (s *Store) change(
	ctx context.Context,
	id string,
	next func(old *Entry, corrupt bool, source *mvccpb.KeyValue) (*Entry, error),
) (int64, error) {
	key := s.key(id)
	for {
		read, err := s.commit(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
			txn.Get([]byte(key)), txn.Get([]byte(s.Layout.Source())),
		}})
		if err != nil {
			return 0, err
		}
		found := txn.Found(read.Responses[0])
		var old *Entry
		if len(found) > 0 {
			if e, err := Decode(found[0].Value); err == nil { // a corrupt entry counts as none, and is overwritten
				old = &e
			}
		}
		e, err := next(old, old == nil && len(found) > 0, txn.First(read.Responses[1]))
		switch {
		case errors.Is(err, errUnchanged):
			return read.Header.GetRevision(), nil
		case err != nil:
			return 0, err
		}
		var ops []*pb.RequestOp
		if e == nil || len(found) == 0 || !bytes.Equal(found[0].Value, e.Encode()) {
			ops = s.noted(s.ops(id, old, e))
		} // else it is as it should be, and the transaction only makes sure that the app is the same
		guards := s.guards()
		resp, err := s.commit(ctx, &pb.TxnRequest{
			Compare: append(guards.Compare(), txn.Modified(key, modRevision(found))),
			Success: ops, Failure: guards.Look(),
		})
		if err != nil {
			return 0, err
		}
		if resp.Succeeded {
			return resp.Header.Revision, nil
		}
		if guards.Check(resp) != nil {
			return 0, ErrAppGone
		}
	}
}

// ops are the writes that turn the entry old into e (nil: no entry), and keep its mark in step. If an entry is woken
// that the source has, it may still hold the data of an earlier allocation, of which the coordinator does not know; so
// its mark is put once more.
func (s *Store) ops(id string, old, e *Entry) []*pb.RequestOp {
	ops := []*pb.RequestOp{txn.Delete(s.key(id))}
	if e != nil {
		ops[0] = txn.Put(s.key(id), e.Encode())
	}
	woken := old != nil && old.Suspended
	switch {
	case e != nil && (e.Suspended || woken && e.FromSource && !e.OwnData):
		ops = append(ops, txn.Put(s.Layout.Deallocation(id), nil))
	case woken:
		ops = append(ops, txn.Delete(s.Layout.Deallocation(id)))
	}
	return ops
}

// noted adds to the writes of a transaction that of the deed.
func (s *Store) noted(ops []*pb.RequestOp) []*pb.RequestOp {
	if s.Origin.IsZero() {
		return ops
	}
	return append(ops, txn.Put(s.Layout.Deed(), []byte(s.Origin.At(s.now()).Encode())))
}

func modRevision(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}

// tooLarge turns the errors of etcd and gRPC for a request over their limits into ErrTooLarge.
func tooLarge(err error) error {
	if txn.IsSizeLimit(err) {
		return fmt.Errorf("%w (%w)", ErrTooLarge, err)
	}
	return err
}
