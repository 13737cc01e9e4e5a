package lease_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/lease"
)

func TestAnUnleasedWriteOutlivesTheLeaseThatItGoesWith(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	id := b.lease(t)
	r := b.write(
		t,
		lease.Op{Key: "claim", Lease: id},
		lease.Op{Key: "trail", Lease: id, Unleased: true, Modified: true},
	)
	if !r["claim"][0].Applied || !r["trail"][0].Applied || r["claim"][0].Revision != r["trail"][0].Revision {
		t.Fatalf("%+v; want both applied, in one transaction", r)
	}
	if _, err := b.client.Revoke(within(t), id); err != nil {
		t.Fatal(err)
	}
	if all := b.all(t, ""); all["claim"].CreateRevision != 0 || all["trail"].CreateRevision == 0 {
		t.Errorf("etcd has %+v, want the trail, and no claim", all)
	}
}

func TestAWriteCanCompareWhenItsKeyWasModified(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	put := func(expect int64, value string) lease.Op {
		return lease.Op{Key: "trail", Expect: expect, Modified: true, Value: []byte(value)}
	}
	one := func(op lease.Op) lease.Result {
		t.Helper()
		// With a write that does not compare mod revisions beside it, both kinds of comparisons are in a transaction.
		r := b.write(t, op, lease.Op{Key: "beside", Any: true, Value: []byte("x")})[op.Key][0]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r
	}
	first := one(put(0, "1"))
	second := one(put(first.Revision, "2"))
	if !first.Applied || !second.Applied {
		t.Fatalf("%+v, %+v; want both applied", first, second)
	}
	late := one(put(first.Revision, "late"))
	if late.Applied || late.Found.ModRevision != second.Revision || late.Found.CreateRevision != first.Revision {
		t.Errorf("%+v; want a conflict with what was written at %d", late, second.Revision)
	}
	gone := lease.Op{Key: "trail", Expect: second.Revision, Modified: true, Delete: true}
	if r := one(gone); !r.Applied {
		t.Errorf("%+v; want it deleted", r)
	}
	if r := one(gone); r.Applied || r.Found.ModRevision != 0 {
		t.Errorf("%+v; want it to be gone already", r)
	}
}
