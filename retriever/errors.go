package retriever

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/hint"
)

// ItemError says in which item of an answer the JSON is broken. The error inside is a *SyntaxError. Nothing that comes
// after is known, so no part of the answer is used. Of an item that is JSON and no resource a *drm.BadItemsError tells,
// with a *drm.InputError; with a *DuplicateError where it is one that was there before.
type ItemError struct {
	Index int // its place in "data", from 0; over all pages where there are several
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("item %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong with the item.
func (e *ItemError) Unwrap() error { return e.Err }

// DuplicateError says that two items of one answer have the same id.
type DuplicateError struct {
	ID            string
	First, Second int // as ItemError.Index
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("id %q is also that of item %d, want each id once", e.ID, e.First)
}

// SyntaxError says that an answer is not JSON, or only the beginning of it: then it matches io.ErrUnexpectedEOF.
type SyntaxError struct {
	Offset int64 // how many bytes of the answer made sense; what is wrong comes right after, or in the value there
	// Line and Column of the byte that is wrong, or of the end, each from 1. A column counts bytes. Both are 0 where
	// they are not known.
	Line, Column int
	Err          error
}

func (e *SyntaxError) Error() string {
	where := ""
	if e.Line > 0 {
		where = fmt.Sprintf(" (line %d, column %d)", e.Line, e.Column)
	}
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the JSON ends early, in what follows byte %d%s", e.Offset, where)
	}
	return fmt.Sprintf("invalid JSON after byte %d%s: %v", e.Offset, where, e.Err)
}

// Unwrap returns what the JSON decoder said.
func (e *SyntaxError) Unwrap() error { return e.Err }

// TooLargeError says that an answer has more bytes than allowed.
type TooLargeError struct {
	Limit int64 // bytes, after decompression
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", e.Limit)
}

// StatusError says that an HTTP source answered with another status than success. Its body is not told, for it may
// repeat secrets of the request.
type StatusError struct {
	Code       int           // such as 503
	RetryAfter time.Duration // how long the source wants to be left alone; 0 where it didn't say
}

var _ drm.Retryable = (*StatusError)(nil)

// Retryable makes it a drm.Retryable: what may pass is asked for again, and not before RetryAfter; the rest, such as
// 404, is not before the next poll.
func (e *StatusError) Retryable() (after time.Duration, again bool) {
	return e.RetryAfter, mayPass(e.Code)
}

func (e *StatusError) Error() string {
	text := http.StatusText(e.Code)
	if text == "" {
		text = "an unknown status"
	}
	text = fmt.Sprintf("status %d (%s)", e.Code, text)
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", to be asked again in %s", e.RetryAfter)
	}
	if check := hint.Status(e.Code); check != "" {
		text += ": " + check
	}
	return text
}
