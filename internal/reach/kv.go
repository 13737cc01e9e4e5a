package reach

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// KV returns the client's KV; it explains its errors.
func KV(client *clientv3.Client) clientv3.KV { return kv{client.KV, client} }

type kv struct {
	clientv3.KV
	client *clientv3.Client
}

// Get implements clientv3.KV.
func (k kv) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := k.KV.Get(ctx, key, opts...)
	return resp, Explain(k.client, err, func() string { return describe(clientv3.OpGet(key, opts...)) })
}

// Put implements clientv3.KV.
func (k kv) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	resp, err := k.KV.Put(ctx, key, value, opts...)
	return resp, Explain(k.client, err, func() string { return Key("write", key) })
}

// Delete implements clientv3.KV.
func (k kv) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	resp, err := k.KV.Delete(ctx, key, opts...)
	return resp, Explain(k.client, err, func() string { return describe(clientv3.OpDelete(key, opts...)) })
}

// Do implements clientv3.KV.
func (k kv) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	resp, err := k.KV.Do(ctx, op)
	return resp, Explain(k.client, err, func() string { return describe(op) })
}

// Txn implements clientv3.KV.
func (k kv) Txn(ctx context.Context) clientv3.Txn {
	return &transaction{Txn: k.KV.Txn(ctx), client: k.client}
}

// transaction remembers what the transaction does, to explain its error.
type transaction struct {
	clientv3.Txn
	client *clientv3.Client
	cmps   []clientv3.Cmp
	ops    []clientv3.Op
}

// If implements clientv3.Txn.
func (t *transaction) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(cs...)
	t.cmps = append(t.cmps, cs...)
	return t
}

// Then implements clientv3.Txn.
func (t *transaction) Then(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(ops...)
	t.ops = append(t.ops, ops...)
	return t
}

// Else implements clientv3.Txn.
func (t *transaction) Else(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(ops...)
	t.ops = append(t.ops, ops...)
	return t
}

// Commit implements clientv3.Txn.
func (t *transaction) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.Txn.Commit()
	return resp, Explain(t.client, err, t.describe)
}

func (t *transaction) describe() string {
	var asked []string
	for _, op := range t.ops { // writes come first, since they are denied more often
		asked = append(asked, describe(op))
	}
	for i := range t.cmps {
		asked = append(asked, Key("read", string(t.cmps[i].KeyBytes())))
	}
	return Several(asked)
}

func describe(op clientv3.Op) string {
	verb := "read"
	switch {
	case op.IsPut():
		verb = "write"
	case op.IsDelete():
		verb = "delete"
	}
	switch key, end := string(op.KeyBytes()), string(op.RangeBytes()); end {
	case "":
		return Key(verb, key)
	case clientv3.GetPrefixRangeEnd(key):
		return fmt.Sprintf("%s all keys below %q", verb, key)
	default:
		return fmt.Sprintf("%s all keys from %q to %q", verb, key, end)
	}
}

// Key describes an operation on a key, such as `read "/drm/x"`.
func Key(verb, key string) string { return fmt.Sprintf("%s %q", verb, key) }

// Several describes a request with many keys from descriptions that Key made, since etcd does not say which key it
// denies. It names the first operation on each key.
func Several(asked []string) string {
	seen := map[string]bool{}
	text, more := "", 0
	for _, a := range asked {
		_, key, _ := strings.Cut(a, " ")
		switch {
		case seen[key]:
			continue
		case len(seen) == 0:
			text = a
		case len(seen) < 3:
			text += " or " + a
		default:
			more++
		}
		seen[key] = true
	}
	if more > 0 {
		text += fmt.Sprintf(", or %d more", more)
	}
	return text
}

// Lease wraps a client's Lease so that it explains its errors.
func Lease(client *clientv3.Client, lease clientv3.Lease) clientv3.Lease {
	return explainedLease{lease, client}
}

type explainedLease struct {
	clientv3.Lease
	client *clientv3.Client
}

// Grant implements clientv3.Lease.
func (l explainedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(ctx, ttl)
	return resp, Explain(l.client, err, func() string { return "get a lease" })
}

// Revoke implements clientv3.Lease.
func (l explainedLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	resp, err := l.Lease.Revoke(ctx, id)
	return resp, Explain(l.client, err, func() string { return "give a lease back" })
}

// TimeToLive implements clientv3.Lease.
func (l explainedLease) TimeToLive(
	ctx context.Context,
	id clientv3.LeaseID,
	opts ...clientv3.LeaseOption,
) (*clientv3.LeaseTimeToLiveResponse, error) {
	resp, err := l.Lease.TimeToLive(ctx, id, opts...)
	return resp, Explain(l.client, err, func() string { return "look at a lease" })
}
