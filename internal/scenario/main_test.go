package scenario_test

import (
	"flag"
	"os"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(silentEnv); endpoint != "" {
		os.Exit(silentLife(endpoint))
	}
	// Most of the tests wait most of the time, so more of them run at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	embeddedtest.VerifyTestMain(m)
}
