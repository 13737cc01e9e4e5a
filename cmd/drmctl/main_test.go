package main

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// asDrmctl, in the environment, makes the test binary be drmctl: the demo, the exec handler's guard and the end-to-end
// tests start their own executable.
const asDrmctl = "DRMCTL_TEST_RUN"

// raceOptions, in the environment, has the options of the race detector.
const raceOptions = "GORACE"

// helpers are the other things that the test binary can be, by its first argument.
var helpers = map[string]func(args []string) int{}

func TestMain(m *testing.M) {
	// A fuzz worker inherits the variable too, but has flags of package testing.
	asTest := slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.") })
	if os.Getenv(asDrmctl) != "" && !asTest {
		if len(os.Args) > 1 && helpers[os.Args[1]] != nil {
			os.Exit(helpers[os.Args[1]](os.Args[2:]))
		}
		main()
	}
	// A process with the race detector sleeps for a second at its exit. The processes that are started here do not.
	race := strings.TrimSpace(os.Getenv(raceOptions) + " atexit_sleep_ms=0")
	if err := errors.Join(os.Setenv(asDrmctl, "1"), os.Setenv(raceOptions, race)); err != nil {
		panic(err)
	}
	// Most of the tests wait most of the time, so more of them run at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	embeddedtest.VerifyTestMain(m)
}
