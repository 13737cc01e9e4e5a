package httpapi_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }
