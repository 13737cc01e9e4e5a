package usercode_test

import (
	"runtime"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

func TestWhatIsLeftIsDoneAfterAPanicAndAGoexit(t *testing.T) {
	done := make(chan int, 10)
	step := 0
	go usercode.Repeat(func() bool {
		step++
		switch step {
		case 2:
			panic("the user's code")
		case 3:
			runtime.Goexit()
		case 5:
			close(done)
			return false
		}
		done <- step
		return true
	})
	var all []int
	for n := range done {
		all = append(all, n)
	}
	if len(all) != 2 || all[0] != 1 || all[1] != 4 {
		t.Errorf("steps %v were done, want 1 and 4", all)
	}
}
