package scenario_test

import (
	"os"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(silentEnv); endpoint != "" {
		os.Exit(silentLife(endpoint))
	}
	embeddedtest.VerifyTestMain(m)
}
