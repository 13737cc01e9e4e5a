package handler_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// A handler made from plain functions.
func ExampleNew() {
	h := handler.New(handler.Funcs{
		Handle: func(_ context.Context, c drm.Claim) error {
			fmt.Println("handle", c.Resource.ID, "with token", c.Token)
			return nil
		},
		Terminate: func(_ context.Context, c drm.Claim) error {
			fmt.Println("terminate", c.Resource.ID)
			return nil
		},
	})
	c := drm.NewClaim("shop", "m1", drm.Resource{ID: "feed-1"}, 7, nil)
	fmt.Println(h.Handle(context.Background(), c), h.Terminate(context.Background(), c))
	// Output:
	// handle feed-1 with token 7
	// terminate feed-1
	// <nil> <nil>
}

// A poller for each resource. It runs until the resource moves to another member, and is started again if it fails.
func ExampleNewLoop() {
	polled := make(chan struct{})
	loop, err := handler.NewLoop(func(ctx context.Context, c drm.Claim) error {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C: // poll what c.Resource describes
				select {
				case polled <- struct{}{}:
				default:
				}
			case <-ctx.Done():
				fmt.Println("ends:", errors.Is(context.Cause(ctx), handler.CauseTerminate))
				return nil
			}
		}
	}, handler.LoopConfig{Backoff: 100 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	c := drm.NewClaim("shop", "m1", drm.Resource{ID: "feed-1"}, 7, nil)
	fmt.Println(loop.Handle(context.Background(), c))
	<-polled
	fmt.Println(loop.Terminate(context.Background(), c))
	// Output:
	// <nil>
	// ends: true
	// <nil>
}

// Failures that pass quickly are retried within one Handle, each attempt bounded.
func ExampleChain() {
	attempts := 0
	h := handler.New(handler.Funcs{Handle: func(context.Context, drm.Claim) error {
		if attempts++; attempts < 3 {
			return errors.New("not yet")
		}
		return nil
	}})
	retry, err := handler.Retry(handler.RetryConfig{Attempts: 5, Backoff: time.Millisecond})
	if err != nil {
		panic(err)
	}
	timeout, err := handler.Timeout(2*time.Second, 5*time.Second)
	if err != nil {
		panic(err)
	}
	h = handler.Chain(h, retry, timeout) // retry is the outer one, so each attempt has its own 2 s
	c := drm.NewClaim("shop", "m1", drm.Resource{ID: "feed-1"}, 7, nil)
	fmt.Println(h.Handle(context.Background(), c), attempts)
	// Output: <nil> 3
}

// One process per resource. The program's main begins with the lines that GuardArg shows.
func ExampleNewExec() {
	command, err := handler.ParseCommand(`worker --mode 'full sync'`)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%q\n", command)
	exec, err := handler.NewExec(handler.ExecConfig{
		Command: command,
		Grace:   20 * time.Second,
		OnExit:  func(c drm.Claim, err error) { fmt.Println(c.Resource.ID, "is started again:", err) },
	})
	if err != nil {
		panic(err)
	}
	// Here comes drm.Start(ctx, drm.Config{Handler: exec, …}). Once the Manager has stopped:
	fmt.Println(exec.Close(context.Background()))
	// Output:
	// ["worker" "--mode" "full sync"]
	// <nil>
}
