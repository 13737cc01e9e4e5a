// Package usercode has what all calls of the user's code have in common: calls of callbacks, and of methods of the
// values that they return. Such code may panic, hang, end its goroutine, be slow, or call back into the member.
package usercode

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Grace is how long a call has to return after its time is up, before it is given up.
const Grace = time.Second

// MaxText is how many bytes of an error's text are kept.
const MaxText = 4096

// ErrGoexit is the error of a call that ended its goroutine (with runtime.Goexit, as t.FailNow does) instead of
// returning.
var ErrGoexit = errors.New("the call ended its goroutine (runtime.Goexit) and did not return")

// Detached calls f in a goroutine of its own, and then done with the error of f in the same goroutine. The error is
// ErrGoexit if f ended the goroutine. f must not panic: whoever adapts the user's code recovers.
func Detached(f func() error, done func(error)) {
	go func() {
		err := ErrGoexit
		defer func() { done(err) }()
		err = f()
	}()
}

// Repeat calls step until it returns false. If step panics, or ends its goroutine, Repeat drops the panic and goes on
// calling step in a new goroutine.
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

// PanicText returns the text of a recovered panic's value: of an error, a Stringer, a string, a bool or a number. Of
// any other value it returns the type only, because a resource's data may be in the value.
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
