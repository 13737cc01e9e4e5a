package etcd_test

import (
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
)

func TestACompleteClusterIsFine(t *testing.T) {
	client := embeddedtest.Client(t)
	c := etcd.Look(t.Context(), client, "probe")()
	if len(c.Members) != 1 || c.Leader == "" || c.Leader != c.Members[0].Name || c.Read <= 0 || len(c.Silent) != 0 ||
		len(c.Alarms) != 0 || len(c.Unknown) != 0 {
		t.Errorf("got %+v", c)
	}
	if m := c.Members[0]; !m.Answers || m.Leaderless || m.Version == "" || m.Size == 0 || m.Quota == 0 {
		t.Errorf("its member: %+v", m)
	}
}

func TestAClusterWithoutSomeMembersSaysWhich(t *testing.T) {
	cluster := embeddedtest.Cluster(t, 3)
	client := embeddedtest.Client(t, cluster.Endpoints()...)
	few := embeddedtest.Client(t, cluster.Endpoints()[0]) // it has to find out where the others are
	if err := cluster.Stop(2); err != nil {
		t.Fatal(err)
	}
	for _, who := range []*clientv3.Client{client, few} {
		c := etcd.Look(t.Context(), who, "probe")()
		gone := slices.IndexFunc(c.Members, func(s etcd.Server) bool { return !s.Answers })
		if len(c.Members) != 3 || gone < 0 || c.Members[gone].Why == "" || c.Leader == "" {
			t.Fatalf("got %+v", c)
		}
		url := strings.TrimPrefix(c.Members[gone].URLs[0], "http://")
		if !strings.HasSuffix(cluster.Endpoints()[2], url) || len(c.Silent) != len(who.Endpoints())/3 {
			t.Errorf("%s is gone, and got %+v", cluster.Endpoints()[2], c)
		}
	}
}
