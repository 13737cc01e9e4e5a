package member

import (
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/membership"
)

// A member refuses to start beside a version that it does not know, and goes on when such a version comes later.
func TestAMemberRefusesAVersionThatItDoesNotKnowAndGoesOnBesideIt(t *testing.T) {
	server := embeddedtest.Server(t)
	client := embeddedtest.Client(t, server.Endpoint())
	cfg := leastConfig(t, server, "a")
	layout := cfg.Layout
	m, err := New(t.Context(), cfg, OptionsFrom(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await := func(what string, ok func(*membership.View) bool) {
		t.Helper()
		for v := range followed(t, m, client) {
			if ok(v) {
				return
			}
		}
		t.Fatalf("not seen: %s", what)
	}
	await("the schema is remembered", func(v *membership.View) bool { return v.Schema == membership.Schema })
	lease, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Put(t.Context(), layout.Member("new"), `{"state":"active","weight":1,"slots":[],"schema":4}`,
		clientv3.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	await("the newer member", func(v *membership.View) bool { return len(v.Members) == 2 })
	other := leastConfig(t, server, "b")
	other.Layout = layout
	if _, err := New(t.Context(), other, OptionsFrom(t.Context())); !errors.Is(err, membership.ErrSchema) {
		t.Errorf("another member starts: %v, want ErrSchema", err)
	}
	select {
	case <-m.Done():
		t.Errorf("the member has ended: %v", m.Err())
	default:
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// followed sends each view of the group until the test ends.
func followed(t *testing.T, m *Member, client *clientv3.Client) <-chan *membership.View {
	views := make(chan *membership.View)
	go func() {
		_ = m.place.registrar.Group.Follow(t.Context(), client, membership.FollowOptions{}, func(v *membership.View) {
			select {
			case views <- v:
			case <-t.Context().Done():
			}
		})
		close(views)
	}()
	return views
}
