package handler_test

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distributed-resource-manager/drm"
)

// TestMain makes the test binary act as any of the programs that the tests of Exec need.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if program := programs[os.Args[1]]; program != nil {
			os.Exit(program(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// programs are what else the test binary can be, by its first argument.
var programs = map[string]func(args []string) int{}

// remaining is a drm.Validity that always has the same time left, like that of a member that renews all the time.
type remaining time.Duration

func (r remaining) Remaining() time.Duration { return time.Duration(r) }

func claim(id string, token int64) drm.Claim {
	data, _ := json.Marshal(map[string]string{"id": id, "secret": "s3cret-data"})
	return drm.NewClaim("app", "m1", drm.Resource{ID: id, Data: data}, token, remaining(time.Minute))
}

func wantInputError(t *testing.T, err error, field string) {
	t.Helper()
	var input *drm.InputError
	if !errors.As(err, &input) || input.Field != field {
		t.Fatalf("got error %v, want an InputError of field %s", err, field)
	}
}

// patience is how long a test waits for something that must happen. Only a test that fails waits so long.
const patience = 60 * time.Second

func await[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Errorf("waited in vain for %s", what)
	}
	return v
}
