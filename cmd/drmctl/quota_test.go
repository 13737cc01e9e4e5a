package main

import (
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestAllocateOverTheQuotaHasAnExitCodeOfItsOwn(t *testing.T) {
	t.Parallel()
	endpoint := embeddedtest.Server(t).Endpoint()
	allocate := func(args ...string) outcome {
		return drmctl(t.Context(), append([]string{"--app", "a", "--endpoints", endpoint, "allocate"}, args...)...)
	}
	if got := allocate("--id", "x", "--create", "--max-app-resources", "1"); got.code != exitFine {
		t.Fatalf("%+v", got)
	}
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--id", "y", "--max-app-resources", "1"}, exitQuota, "1 resources, and the app may have 1"},
		{[]string{"--data", `{"id":"x","y":"0123456789"}`, "--max-resource-bytes", "20"}, exitQuota, "may have 20"},
		{[]string{"--id", "x", "--max-app-resources", "1"}, exitFine, ""},
		{[]string{"--id", "y", "--max-app-resources", "0"}, exitUsage, "--max-app-resources"},
		{[]string{"--id", "y", "--max-resource-bytes", "1"}, exitUsage, "--max-resource-bytes"},
	} {
		got := allocate(test.args...)
		if got.code != test.code || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%q: %+v, want exit code %d and %q", test.args, got, test.code, test.says)
		}
	}
}
