package drm_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	drm.SetStatsInterval(200 * time.Millisecond)
	embeddedtest.VerifyTestMain(m)
}
