package drm

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// What the user's code returns or panics with is the user's code again: an Error method may panic (one of a nil pointer
// does), block, or call back into the manager. So its text is taken down in the goroutine that called the user's code,
// under the limits of that call, and everyone else reads the text.

// toldError is an error of the user's code whose text is known. It unwraps to that error, for the user to test for it.
type toldError struct {
	text string
	err  error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

// told takes down the text of an error of the user's code. It is called in the goroutine that the error came from.
func told(err error) error {
	switch err := err.(type) { //nolint:errorlint // these very types, whose methods are not the user's
	case nil:
		return nil
	case *toldError:
		return err
	case *PanicError:
		if err != nil && err.text != "" { // else it is not ours
			return err
		}
	}
	return &toldError{textOf(err), err}
}

// textOf returns the text of an error of the user's code, or what is wrong with its Error method.
func textOf(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			why := excerpt.Clip(panicText(v), usercode.MaxText)
			text = fmt.Sprintf("an error of type %T, whose Error method panics: %s", err, why)
		}
	}()
	return excerpt.Clip(err.Error(), usercode.MaxText)
}

// isPanic says whether an error of the user's code stands for a panic.
func isPanic(err error) bool {
	return asked(func() bool {
		var p *PanicError
		return errors.As(err, &p)
	})
}

// matches says whether an error of the user's code matches one of DRM's.
func matches(err, target error) bool { return asked(func() bool { return errors.Is(err, target) }) }

// asked is what an error of the user's code says of itself; false where it panics. It is called like told: an error's Unwrap,
// Is and As methods are the user's code too.
func asked(question func() bool) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return question()
}

// safely calls the user's code, turns a panic into a *PanicError, and takes down the text of what it returns. It does not
// return where the call ends its goroutine.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return told(f())
}

// newPanicError makes an error of what a recovered panic was about.
func newPanicError(v any) *PanicError {
	return &PanicError{Value: v, Stack: debug.Stack(), text: excerpt.Clip("panic: "+panicText(v), usercode.MaxText)}
}

// panicText says what a recovered panic was about, as Go's runtime does: what an error or a Stringer says, a text, a number.
// Of another value it tells the type alone: a resource's data may be in it.
func panicText(v any) string {
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
