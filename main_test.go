package drm_test

import (
	"os"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// testStatsInterval is how often members write their figures here.
const testStatsInterval = 200 * time.Millisecond

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(silentEnv); endpoint != "" {
		os.Exit(silentLife(endpoint))
	}
	drm.SetStatsInterval(testStatsInterval)
	embeddedtest.VerifyTestMain(m)
}
