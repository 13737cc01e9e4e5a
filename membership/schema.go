package membership

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What is below group/ has a version, Schema. A program knows its own version, and works beside the versions one step
// before and after it: the older members ignore what they do not know, and the newer ones reckon with that (see
// View.assign). Beyond one step nobody reckons with anybody, so such a member may not join.
//
// The key group/schema remembers the newest version that all members had at once. From then on there may be keys that
// only this version understands, also when all members have stopped. A program of the version before may still start:
// that is how an upgrade is taken back. Older versions than 2 know neither the key nor these rules.

// SchemaError says that a program may not join, because a live member, or what is in etcd, has a Schema that is more
// than one step away from its own.
type SchemaError struct {
	Mine   int    // that of this program
	Theirs int    // that of the member, or of the app
	Member string // which live member; empty: the app, whose members have stopped or are all closer than that
}

func (e *SchemaError) Error() string {
	who := "the app was last used by members"
	if e.Member != "" {
		who = fmt.Sprintf("member %q is live, and is", e.Member)
	}
	if e.Theirs > e.Mine {
		return fmt.Sprintf("%s of schema %d, and this program knows schema %d: "+
			"upgrade this program to a version of schema %d or %d", who, e.Theirs, e.Mine, e.Theirs-1, e.Theirs)
	}
	return fmt.Sprintf("%s of schema %d, and this program has schema %d: upgrade one step at a time, "+
		"first all members to a version of schema %d", who, e.Theirs, e.Mine, e.Theirs+1)
}

// Is makes errors.Is find ErrSchema.
func (e *SchemaError) Is(target error) bool { return target == ErrSchema }

// schema is the Schema that the record's program knows.
func (r Record) schema() int { return max(1, r.Schema) }

// written is the Schema that has to be known to understand what is in etcd.
func (v *View) written() int { return max(1, v.Schema) }

// CheckSchema returns a *SchemaError if a program with that Schema may not join. In an app that nobody has joined yet,
// any may.
func (v *View) CheckSchema(mine int) error {
	if far, ok := v.farthest(mine); ok {
		return &SchemaError{Mine: mine, Theirs: v.Members[far].schema(), Member: far}
	}
	used := v.Schema > 0 || len(v.Slots) > 0 || len(v.Blocks) > 0
	if theirs := v.written(); used && apart(mine, theirs) {
		return &SchemaError{Mine: mine, Theirs: theirs}
	}
	return nil
}

// farthest returns the live member whose Schema is the farthest from mine; ok is false if none is too far.
func (v *View) farthest(mine int) (id string, ok bool) {
	most := 1
	for other, m := range v.Members {
		far := max(m.schema()-mine, mine-m.schema())
		if far > most || far == most && ok && other < id {
			id, most, ok = other, far, true
		}
	}
	return id, ok
}

func apart(a, b int) bool { return a-b > 1 || b-a > 1 }

// SchemasApart describes what is more than one step away from a program that knows a Schema: a live member, or the
// app. It is empty if nothing is. Members that run beside such a member go on: claims keep that safe, but they may not
// agree on who owns a shard.
func (v *View) SchemasApart(mine int) string {
	if err := v.CheckSchema(mine); err != nil {
		return err.Error()
	}
	return ""
}

// SchemasMixed describes two live members that are more than one step apart; it is empty if there are none.
func (v *View) SchemasMixed() string {
	low, high := "", ""
	for id, m := range v.Members {
		if s := m.schema(); low == "" || s < v.Members[low].schema() || s == v.Members[low].schema() && id < low {
			low = id
		}
		if s := m.schema(); high == "" || s > v.Members[high].schema() || s == v.Members[high].schema() && id < high {
			high = id
		}
	}
	from, to := v.Members[low].schema(), v.Members[high].schema()
	if !apart(from, to) {
		return ""
	}
	return fmt.Sprintf("member %q has schema %d and member %q schema %d: they may not agree on who owns a shard, "+
		"so stop one of them", low, from, high, to)
}

// SchemaRises says whether all members have known a newer Schema than etcd remembers, so that RaiseSchema is due.
func (v *View) SchemaRises() bool { return v.written() < Schema && len(v.Members) > 0 && !v.HasOlder() }

// schemaValue is the value of the key group/schema.
type schemaValue struct {
	Schema int `json:"schema"`
}

func decodeSchema(value []byte) (int, bool) {
	var s schemaValue
	if json.Unmarshal(value, &s) != nil || s.Schema < 1 {
		return 0, false
	}
	return s.Schema, true
}

// RaiseSchema remembers in etcd that all members know this program's Schema. A later view shows whether that is so:
// when several members do this at once, one of them succeeds. ErrGone says that the registration is no longer in force.
func (g *Registrar) RaiseSchema(ctx context.Context, reg Registration, v *View) error {
	if !v.SchemaRises() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key, me := g.layout().Schema(), g.layout().Member(g.ID)
	// A key that was written since the view stays: another member was faster, or knows more.
	resp, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(me), "=", reg.CreateRevision),
			clientv3.Compare(clientv3.ModRevision(key), "<", v.Revision+1)).
		Then(clientv3.OpPut(key, encode(schemaValue{Schema}))).
		Else(clientv3.OpGet(me, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return fmt.Errorf("remember the schema: %w", err)
	}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); !resp.Succeeded &&
		(len(kvs) == 0 || kvs[0].CreateRevision != reg.CreateRevision) {
		return fmt.Errorf("remember the schema: %w", ErrGone)
	}
	return nil
}
