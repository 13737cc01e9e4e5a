package reshard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// inFlight is how many transactions are in progress at once.
	inFlight = 4
	// batchBytes bounds what one transaction writes. It is below etcd's default limit of 1.5 MiB for a request.
	batchBytes = 1 << 20
)

// move moves everything to where it belongs, drops what has no meaning any more, and verifies the result.
func (j *Job) move(ctx context.Context) error {
	err := j.pages(ctx, false, func(page []*mvccpb.KeyValue) error {
		var moves, orders []moved
		for _, kv := range page {
			key := j.Layout.Parse(string(kv.Key))
			switch {
			case key.Kind == keys.Trail:
				if err := j.moveTrail(ctx, key, kv); err != nil {
					return err
				}
			case key.Kind == keys.Retry: // nobody has a claim, and whoever gets one tries at once
				orders = append(orders, moved{KeyValue: kv})
			case isStray(key, j.To):
				moves = append(moves, moved{kv, j.place(key)})
			}
		}
		for part := range slices.Chunk(orders, txn.UsualOps-2) {
			if err := j.send(ctx, part, true); err != nil {
				return err
			}
		}
		return j.moveAll(ctx, moves)
	})
	if err != nil {
		return err
	}
	if err := j.dropFromGroup(ctx); err != nil {
		return err
	}
	p := j.state.progress
	if p.Census, err = j.verify(ctx); err != nil {
		return err
	}
	p.Stage, p.Shards = finishing, p.To
	return j.save(ctx, p)
}

// moved is a key that is moved.
type moved struct {
	*mvccpb.KeyValue
	to string
}

// place returns where a key belongs.
func (j *Job) place(key keys.Key) string {
	n := key.Home(j.To)
	if key.Kind == keys.Quarantine {
		return j.Layout.Quarantine(n, key.ID)
	}
	return j.Layout.Resource(n, key.ID)
}

// moveAll moves some keys: it puts all of them at their new places, and then deletes the old ones.
func (j *Job) moveAll(ctx context.Context, moves []moved) error {
	for _, deletes := range []bool{false, true} {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(inFlight)
		for part := range slices.Chunk(moves, txn.UsualOps-2) {
			group.Go(func() error { return j.send(gctx, part, deletes) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	j.report.Moved += len(moves)
	return nil
}

// send puts some keys at their new places, or deletes them from the old ones.
func (j *Job) send(ctx context.Context, moves []moved, deletes bool) (err error) {
	committer, guards := txn.New(j.Client), j.guards()
	sender := txn.Sender[moved]{
		Commit: func(req *pb.TxnRequest) (*pb.TxnResponse, error) {
			asking, cancel := context.WithTimeout(ctx, j.Timeout)
			defer cancel()
			return committer.Commit(asking, req)
		},
		Limits: &j.limits, Guards: guards, By: pb.Compare_MOD, MaxOps: txn.UsualOps, MaxBytes: batchBytes,
		Write: func(m *moved) txn.Write {
			if deletes {
				return txn.Write{Key: string(m.Key), Delete: true, Any: true}
			}
			return txn.Write{Key: m.to, Any: true}
		},
		Value: func(m *moved) []byte { return m.Value },
		Size:  func(m *moved) int { return len(m.to) + len(m.Value) + 50 },
		Done:  func(*moved, txn.Outcome) {},
		Failed: func(part []moved, failure error) bool {
			err = fmt.Errorf("move %q to %q: %w", part[0].Key, part[0].to, failure)
			if errors.As(failure, new(*txn.GuardError)) {
				err = errOvertaken
			}
			return false
		},
	}
	if sender.Send(moves) {
		return j.written(map[bool]string{false: "put", true: "delete"}[deletes])
	}
	return err
}

// dropped describes what names shards, and so has no meaning any more.
func dropped(v *membership.View, table bool) []string {
	var all []string
	for _, n := range slices.Sorted(maps.Keys(v.Pins)) {
		all = append(all, fmt.Sprintf("the pin of shard %d to member %q", n, v.Pins[n].Member))
	}
	coordinators := 0
	for _, n := range slices.Sorted(maps.Keys(v.Exceptions)) {
		if e := v.Exceptions[n]; e.Why == membership.WhyMove {
			all = append(all, fmt.Sprintf("the move of shard %d to member %q", n, e.Member))
		} else {
			coordinators++
		}
	}
	if coordinators > 0 {
		all = append(all, fmt.Sprintf("%d exceptions of the coordinator", coordinators))
	}
	if table {
		all = append(all, "the table of exceptions")
	}
	for what, orders := range map[string]map[string]membership.Restriction{"drain": v.Drains, "cordon": v.Cordons} {
		for id, order := range orders {
			if order.Keeps != nil {
				all = append(all, fmt.Sprintf("the shards that member %q keeps in spite of its %s", id, what))
			}
		}
	}
	slices.Sort(all)
	return all
}

func (j *Job) hasTable(group []*mvccpb.KeyValue) bool {
	return slices.ContainsFunc(group, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == j.Layout.Placement() })
}

// dropFromGroup deletes what names shards from the group's keys. The orders that keep shards stay, without these.
func (j *Job) dropFromGroup(ctx context.Context) error {
	group, err := j.group(ctx)
	if err != nil {
		return err
	}
	for _, kv := range group {
		key := string(kv.Key)
		unchanged := append(j.unchanged(), clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision))
		switch j.Layout.Parse(key).Kind {
		case keys.Drain, keys.Cordon, keys.Weight:
			if value, changed := withoutKeeps(kv.Value); changed {
				put := clientv3.OpPut(key, value, clientv3.WithIgnoreLease())
				if err := j.step(ctx, "keep nothing", unchanged, put); err != nil {
					return err
				}
			}
		case keys.Placement:
			if err := j.step(ctx, "drop the table", unchanged, clientv3.OpDelete(key)); err != nil {
				return err
			}
		}
	}
	for _, prefix := range []string{j.Layout.Pins(), j.Layout.Exceptions()} {
		err := j.step(ctx, "drop "+prefix, j.unchanged(), clientv3.OpDelete(prefix, clientv3.WithPrefix()))
		if err != nil {
			return err
		}
	}
	return nil
}

// withoutKeeps returns the value of an order without the shards that a member keeps. It leaves alone what it does not
// know.
func withoutKeeps(value []byte) (string, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil || fields["keeps"] == nil {
		return "", false
	}
	delete(fields, "keeps")
	b, err := json.Marshal(fields)
	return string(b), err == nil
}
