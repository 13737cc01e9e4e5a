package intake_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/distributed-resource-manager/drm/internal/intake"
)

func TestWhatIsPutMeanwhileIsTakenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := intake.New[int](3, 100)
		go func() {
			for i := range 8 {
				q.Put(t.Context(), i, 1)
			}
			q.Put(t.Context(), 8, 1000) // larger than the queue
			q.Close()
		}()
		next := 0
		for _, want := range []int{3, 3, 2, 1} {
			synctest.Wait()
			got, ok := q.Take(t.Context())
			if !ok || len(got) != want {
				t.Fatalf("took %v, want %d", got, want)
			}
			for _, i := range got {
				if i != next {
					t.Fatalf("took %v after %d", got, next)
				}
				next++
			}
		}
		if got, ok := q.Take(t.Context()); ok {
			t.Errorf("took %v after the end", got)
		}
	})
}

func TestAContextEndsPutAndTake(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := intake.New[int](1, 1)
	if _, ok := q.Take(ctx); ok {
		t.Error("took something")
	}
	if !q.Put(ctx, 1, 1) { // there was room
		t.Error("the first item was not put")
	}
	if q.Put(ctx, 2, 1) {
		t.Error("a second item was put")
	}
}
