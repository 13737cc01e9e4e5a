package drm_test

import (
	"os"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(silentEnv); endpoint != "" {
		os.Exit(silentLife(endpoint))
	}
	drm.SetStatsInterval(200 * time.Millisecond)
	embeddedtest.VerifyTestMain(m)
}
