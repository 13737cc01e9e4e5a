package retriever_test

import (
	"flag"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	// The tests that run at once mostly wait, so more of them do than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	embeddedtest.VerifyTestMain(m)
}
