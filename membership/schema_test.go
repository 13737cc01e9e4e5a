package membership_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/membership"
)

// putMember puts the key of a live member by hand, as a program of that schema does; 1 leaves the schema out.
func (g *group) putMember(id string, schema int) clientv3.LeaseID {
	g.Helper()
	value := fmt.Sprintf(`{"state":"active","weight":1,"slots":[],"schema":%d}`, schema)
	if schema == 1 {
		value = `{"state":"active","weight":1,"slots":[]}`
	}
	lease := g.grant(600)
	g.put(g.layout.Member(id), value, clientv3.WithLease(lease))
	return lease
}

func TestAMemberJoinsBesideSchemasOneStepAwayAndRefusesBeyond(t *testing.T) {
	for _, test := range []struct {
		schema int // of the live member
		want   []string
	}{
		{1, nil},
		{2, nil},
		{3, nil},
		{4, []string{`"other"`, "schema 4", "schema 2", "upgrade this program", "3 or 4"}},
		{9, []string{`"other"`, "schema 9", "8 or 9"}},
	} {
		t.Run(fmt.Sprint(test.schema), func(t *testing.T) {
			g := newGroup(t)
			other := g.putMember("other", test.schema)
			_, err := g.registrar("a").Register(t.Context(), active(1), g.grant(600))
			wantRefusal(t, err, &membership.SchemaError{Mine: membership.Schema, Theirs: test.schema, Member: "other"},
				test.want)
			if _, live := g.view().Members["a"]; live != (test.want == nil) {
				t.Errorf("the member is registered: %v", live)
			}
			if test.want == nil {
				return
			}
			g.revoke(other) // nothing keeps this program out any more
			g.join("a", 1)
		})
	}
}

// wantRefusal checks that an error is that SchemaError, and says certain things; want is nil where there is none.
func wantRefusal(t *testing.T, err error, refusal *membership.SchemaError, want []string) {
	t.Helper()
	var got *membership.SchemaError
	switch {
	case want == nil && err == nil:
		return
	case want == nil || !errors.As(err, &got) || *got != *refusal || !errors.Is(err, membership.ErrSchema):
		t.Fatalf("got %v, want %v", err, want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// What the members of a later version check is the same for them: one of schema 3 refuses schema 1.
func TestAnOlderMemberIsToBeUpgradedFirst(t *testing.T) {
	v := picture{}.member("old", membership.Active, 0).view()
	wantRefusal(t, v.CheckSchema(3), &membership.SchemaError{Mine: 3, Theirs: 1, Member: "old"},
		[]string{`"old"`, "schema 1", "first all members to a version of schema 2"})
	if err := v.CheckSchema(2); err != nil {
		t.Error(err)
	}
}

func TestAnAppRemembersWhatItsMembersHaveKnown(t *testing.T) {
	stopped := picture{}.with(layout.Slot(0), "gone")
	for _, test := range []struct {
		name    string
		picture picture
		mine    int
		want    []string
	}{
		{"a new app", picture{}, 7, nil},
		{"an app of schema 1", stopped, 2, nil},
		{"an app of schema 1, two steps later", stopped, 3, []string{"schema 1", "first all members", "schema 2"}},
		{"taken back by one step", picture{}.with(layout.Schema(), `{"schema":3}`), 2, nil},
		{
			"taken back by two steps", picture{}.with(layout.Schema(), `{"schema":4}`), 2,
			[]string{"schema 4", "upgrade this program to a version of schema 3 or 4"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := test.picture.view()
			refusal := &membership.SchemaError{Mine: test.mine, Theirs: max(1, v.Schema)}
			wantRefusal(t, v.CheckSchema(test.mine), refusal, test.want)
		})
	}
}

func TestTheSchemaIsRememberedOnceNoOlderMemberLives(t *testing.T) {
	g := newGroup(t)
	old := g.putMember("old", 1)
	reg := g.join("a", 1)
	raise := func(v *membership.View) {
		t.Helper()
		if err := g.registrar("a").RaiseSchema(t.Context(), reg, v); err != nil {
			t.Fatal(err)
		}
	}
	raise(g.view())
	if v := g.view(); v.Schema != 0 || v.SchemaRises() {
		t.Errorf("while an older member lives: schema %d, rises: %v", v.Schema, v.SchemaRises())
	}
	g.revoke(old)
	before := g.view()
	if !before.SchemaRises() {
		t.Error("it does not rise though no older member lives")
	}
	raise(before)
	after := g.view()
	if after.Schema != membership.Schema || after.SchemaRises() || len(after.Corrupt) > 0 {
		t.Errorf("schema %d, rises: %v, corrupt: %q", after.Schema, after.SchemaRises(), after.Corrupt)
	}
	g.put(g.layout.Schema(), `{"schema":3}`)
	raise(before) // it is late, and must not write over what is newer
	if v := g.view(); v.Schema != 3 {
		t.Errorf("schema %d, want the 3 that another has written", v.Schema)
	}
	g.put(g.layout.Schema(), `x`)
	raise(g.view())
	if v := g.view(); v.Schema != membership.Schema {
		t.Errorf("schema %d after somebody has overwritten the key", v.Schema)
	}
	g.revoke(reg.Lease)
	err := g.registrar("a").RaiseSchema(t.Context(), reg, before)
	if !errors.Is(err, membership.ErrGone) {
		t.Errorf("by a member that is gone: %v, want ErrGone", err)
	}
}

func TestAMemberThatIsJoiningRefusesWhatHasComeMeanwhile(t *testing.T) {
	g := newGroup(t)
	joining := active(1)
	joining.State = membership.Joining
	reg, err := g.registrar("a").Register(t.Context(), joining, g.grant(600))
	if err != nil {
		t.Fatal(err)
	}
	late := g.putMember("late", 4)
	if _, err := g.registrar("a").Activate(t.Context(), reg); !errors.Is(err, membership.ErrSchema) {
		t.Errorf("activate: %v, want ErrSchema", err)
	}
	g.revoke(late)
	reg, err = g.registrar("a").Activate(t.Context(), reg)
	if err != nil {
		t.Fatal(err)
	}
	g.putMember("later", 4)
	if _, err := g.registrar("a").SetState(t.Context(), reg, membership.Unready); err != nil {
		t.Fatal(err)
	}
	if _, err := g.registrar("a").Activate(t.Context(), reg); err != nil {
		t.Errorf("a member that had joined before does not go on: %v", err)
	}
	v := g.view()
	for _, said := range []string{v.SchemasApart(membership.Schema), v.SchemasMixed()} {
		if !strings.Contains(said, `"later"`) || !strings.Contains(said, "schema 4") {
			t.Errorf("it is said %q of the member of schema 4", said)
		}
	}
}

func TestNothingIsSaidOfSchemasOneStepApart(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).
		with(layout.Member("b"), `{"state":"active","weight":1,"schema":2}`).
		with(layout.Member("c"), `{"state":"active","weight":1,"schema":-5}`).view()
	if apart, mixed := v.SchemasApart(2), v.SchemasMixed(); apart != "" || mixed != "" {
		t.Errorf("%q, %q", apart, mixed)
	}
	if said := (picture{}).view().SchemasMixed(); said != "" {
		t.Errorf("of nobody: %q", said)
	}
}
