package main

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// An etcd that is there, and cannot serve, says why.
func TestAnEtcdThatCannotServeSaysWhy(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.Cluster(t, 3)
	for i := range 2 {
		if err := cluster.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	learner := embeddedtest.Learner(t, embeddedtest.Server(t))
	for _, test := range []struct {
		name, endpoint string
		code           int
		want           []string
	}{
		{
			"no leader", cluster.Endpoints()[2], exitUnreachable,
			[]string{"etcd unreachable: no answer within 8s", "its cluster has no leader", "majority"},
		},
		{
			"a learner", learner.Endpoint(), exitFailed,
			[]string{"not supported for learner", "voting members", "--endpoints"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := drmctl(t.Context(), "members", "--app", "a", "--endpoints", test.endpoint, "--dial-timeout", "8s",
				"--command-timeout", "30s")
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			checkOneLine(t, got.stderr, test.want...)
			t.Log(got.stderr)
		})
	}
}
