package catalogue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// Errors of writes.
var (
	// ErrNotFound says that there is no such resource, or that it was deallocated already.
	ErrNotFound = errors.New("no such resource")
	// ErrAppGone says that the app's config key is not the one that was given. Nothing was written.
	ErrAppGone = appconfig.ErrGone
	// ErrTooLarge says that a resource does not fit into one request to etcd.
	ErrTooLarge = txn.ErrTooLarge
	// ErrDeposed says that the coordinator key is not the one that was given.
	ErrDeposed = errors.New("not the coordinator any more")
)

// Store is an app's catalogue in etcd. Its fields do not change; it is safe for concurrent use.
type Store struct {
	Etcd    txn.Committer
	Layout  keys.Layout
	Shards  int
	Config  int64         // the create revision of the app's config key
	Timeout time.Duration // of each request; default 5 s
	Limits  *txn.Limits   // of etcd, as far as they are known

	Wall func() time.Time // by which a source is judged to be gone, with days to spare; default time.Now
}

// Item is a resource as a source gives it.
type Item struct {
	ID   string
	Data json.RawMessage // a JSON object
}

func (s *Store) key(id string) string { return s.Layout.Resource(shard.Of(id, s.Shards), id) }

// ask sends a transaction, bounded by Timeout.
func (s *Store) ask(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, 5*time.Second))
	defer cancel()
	return s.Etcd.Commit(ctx, req)
}

// commit is ask, and learns of etcd's limits.
func (s *Store) commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := s.ask(ctx, req)
	if err != nil {
		err = tooLarge(s.Limits.TooMany(err, req))
	}
	return resp, err
}

// inParts has operations sent, in as few transactions as etcd takes them in.
func inParts[T any](s *Store, all []T, send func(part []T) error) error {
	for most := len(all); len(all) > 0; {
		n := min(most, s.mostWrites(), len(all))
		switch err := send(all[:n]); {
		case err == nil:
			all = all[n:]
		case n > 1 && divisible(err):
			most = (n + 1) / 2
		default:
			return err
		}
	}
	return nil
}

// mostWrites is how many entries may be in one transaction, as far as is known: two comparisons are the guards, and a
// nested transaction counts besides the outer one.
func (s *Store) mostWrites() int { return max(1, s.Limits.Ops()-2) }

// divisible says whether a transaction that was refused may pass in parts.
func divisible(err error) bool {
	var limit *txn.LimitError
	return errors.Is(err, ErrTooLarge) || errors.As(err, &limit)
}

// guards are the comparisons of every write: in an app that was deleted, or deleted and made anew, nothing is written.
func (s *Store) guards() txn.Guards {
	return txn.Guards{{Key: s.Layout.Config(), Created: s.Config}}
}

// Allocate makes an allocation want a resource, and wakes one that was deallocated. ownData says that the data is the
// allocation's own; without it, what an entry of the id already has is kept, unless that was left by an allocation
// which ended. It returns the revision at which etcd has it.
//
// Errors: ErrAppGone; ErrTooLarge; etcd's, after which it may or may not have been written.
func (s *Store) Allocate(ctx context.Context, item Item, ownData bool) (int64, error) {
	rev, err := s.change(ctx, item.ID, func(old *Entry, _ bool, _ *mvccpb.KeyValue) (*Entry, error) {
		e := Entry{Allocated: true, OwnData: ownData, Data: item.Data}
		if old != nil {
			e.FromSource = old.FromSource
			if !ownData && (e.FromSource || !old.Suspended) {
				e.Data, e.OwnData = old.Data, old.OwnData
			}
		}
		return &e, nil
	})
	if err != nil {
		return 0, fmt.Errorf("allocate %q: %w", item.ID, err)
	}
	return rev, nil
}

// Deallocate takes a resource out of the catalogue: its entry is deleted, or suspended where the source has the id, or
// where there is a source that may. A source that is gone has nothing any more. An entry that is not understood goes
// all the same. It returns the revision at which it is out.
//
// Errors: ErrNotFound where there is nothing to take out; ErrAppGone; etcd's, after which it may or may not have been
// done.
func (s *Store) Deallocate(ctx context.Context, id string) (int64, error) {
	rev, err := s.change(ctx, id, func(old *Entry, corrupt bool, record *mvccpb.KeyValue) (*Entry, error) {
		if corrupt {
			old = &Entry{Data: idAlone(id)}
		}
		if old == nil || old.Suspended {
			return nil, ErrNotFound
		}
		switch source, err := s.standing(ctx, record); {
		case err != nil:
			return nil, err
		case source == there || source == none && old.FromSource: // of the latter, somebody deleted the record by hand
			return &Entry{FromSource: old.FromSource, Suspended: true, Data: old.Data}, nil
		default:
			return nil, nil
		}
	})
	if err != nil {
		return 0, fmt.Errorf("deallocate %q: %w", id, err)
	}
	return rev, nil
}

// idAlone is the object of a resource of which nothing else is known.
func idAlone(id string) json.RawMessage {
	b, err := jsontext.Marshal(map[string]string{"id": id})
	if err != nil { // a string always marshals
		panic(err)
	}
	return b
}

// change reads an entry, and the source's record, and writes what next makes of them (nil: nothing), again and again
// until nobody wrote in between. A corrupt entry is told as none, and that it is there.
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
			if e, err := Decode(found[0].Value); err == nil { // a corrupt entry is as good as none: it is overwritten
				old = &e
			}
		}
		e, err := next(old, old == nil && len(found) > 0, txn.First(read.Responses[1]))
		if err != nil {
			return 0, err
		}
		guards := s.guards()
		resp, err := s.commit(ctx, &pb.TxnRequest{
			Compare: append(guards.Compare(), txn.Modified(key, modRevision(found))),
			Success: s.ops(id, old, e), Failure: guards.Look(),
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

// ops are the writes that make one entry another (nil: none), and keep its mark in step. One that is woken as the
// source has it may have been deallocated with an allocation's data, which the coordinator does not know: its mark is
// put once more.
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

func modRevision(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}

// tooLarge turns the errors that etcd and gRPC have for a request over their limits into ErrTooLarge.
func tooLarge(err error) error {
	if errors.Is(err, rpctypes.ErrRequestTooLarge) || isMessageTooLarge(err) {
		return fmt.Errorf("%w (%w)", ErrTooLarge, err)
	}
	return err
}

// isMessageTooLarge says whether gRPC refused a message for its size, before or at the server. etcd uses the same code
// for a full disk quota and for too many requests, which are no fault of the resource.
func isMessageTooLarge(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "larger than max")
}
