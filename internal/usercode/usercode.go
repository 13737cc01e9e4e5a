// Package usercode has what is common to all calls of the user's code: callbacks, and the methods of what they return.
// Such code may panic, hang, end its goroutine, be slow, or call back into the member.
package usercode

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Grace is how long a call whose time is up is given to notice that, before it is given up.
const Grace = time.Second

// MaxText is how many bytes of an error's text are kept.
const MaxText = 4096

// ErrGoexit is the error of a call that ended its goroutine (runtime.Goexit, which t.FailNow and the like use) instead
// of returning.
var ErrGoexit = errors.New("the call ended its goroutine (runtime.Goexit) and did not return")

// Detached calls f in a goroutine of its own, and then done with what f returned, in the same goroutine: ErrGoexit
// where f ended that. f must not panic: whoever adapts the user's code recovers.
func Detached(f func() error, done func(error)) {
	go func() {
		err := ErrGoexit
		defer func() { done(err) }()
		err = f()
	}()
}

// Repeat calls step until it returns false. Where step panics, or ends its goroutine, Repeat goes on in a goroutine
// of its own with what is left to do.
func Repeat(step func() bool) {
	done := false
	defer func() {
		if !done {
			_ = recover()
			go Repeat(step)
		}
	}()
	for step() {
	}
	done = true
}

// PanicText says what a recovered panic was about, as Go's runtime does: what an error or a Stringer says, a text, a
// number. Of another value it tells the type alone: a resource's data may be in it.
func PanicText(v any) string {
	switch v.(type) {
	case error, fmt.Stringer:
		return fmt.Sprint(v)
	}
	switch value := reflect.ValueOf(v); value.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprint(v)
	default:
		return fmt.Sprintf("a value of type %T", v)
	}
}
