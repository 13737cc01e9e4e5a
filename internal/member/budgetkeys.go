package member

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

const (
	// keyTimeout is how long the user's code has to tell the key of a resource.
	keyTimeout = time.Second
	// mostHangingKeys is how many such calls may have been given up without having returned. While there are as many,
	// the user's code is not called any more: each of these calls keeps a goroutine.
	mostHangingKeys = 1000
)

// keyFinder asks the user's code which budget a resource belongs to. Each call has a goroutine of its own, so that none
// keeps the loop or another resource waiting. Only the loop calls find.
type keyFinder struct {
	// key is the user's code. It is nil if resources have no keys.
	key func(id string, data []byte) (string, error)
	// answer is core.Core.KeyFound.
	answer func(now time.Duration, shard int, id string, gen int64, key string, found bool)

	post     func(func(now time.Duration)) bool
	timeout  time.Duration
	failures *failures.Log

	hanging atomic.Int64 // calls that were given up and have not returned
}

// find finds the key for a FindKey, and tells the core.
func (f *keyFinder) find(a core.Action) {
	if f.hanging.Load() >= mostHangingKeys {
		f.failed(a, fmt.Sprintf("%d calls have not returned", mostHangingKeys))
		return
	}
	var key string
	var over atomic.Bool // the call has returned, or was given up
	giveUp := time.AfterFunc(f.timeout, func() {
		f.hanging.Add(1) // before over is set, since the call's return takes it back
		if !over.CompareAndSwap(false, true) {
			f.hanging.Add(-1)
			return
		}
		f.failed(a, fmt.Sprintf("it has not returned within %v", f.timeout))
	})
	usercode.Detached(func() (err error) {
		key, err = f.key(a.ID, a.Data)
		return err
	}, func(err error) {
		giveUp.Stop()
		switch {
		case !over.CompareAndSwap(false, true):
			f.hanging.Add(-1)
		case err != nil:
			f.failed(a, err.Error())
		default:
			f.tell(a, key, true)
		}
	})
}

// failed tells the core that nobody can find the key.
func (f *keyFinder) failed(a core.Action, why string) {
	f.failures.Add(failures.Failure{
		Message: "cannot find the budget of a resource; it shares one with all others of which that is so",
		Level:   zap.WarnLevel, Resource: a.ID, Error: "BudgetKey: " + why,
	})
	f.tell(a, "", false)
}

func (f *keyFinder) tell(a core.Action, key string, found bool) {
	f.post(func(now time.Duration) { f.answer(now, a.Shard, a.ID, a.Token, key, found) })
}
