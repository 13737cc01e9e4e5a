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

// ItemError says in which item of an answer the JSON is broken. The error inside is a *SyntaxError. What follows in the
// answer is not known, so no part of it is used. (An item that is JSON but not a valid resource is in a
// *drm.BadItemsError instead.)
type ItemError struct {
	Index int // the item's index in "data", from 0; pages count on
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("item %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong with the item.
func (e *ItemError) Unwrap() error { return e.Err }

// DuplicateError says that two items of one answer have the same id.
type DuplicateError struct {
	ID            string
	First, Second int // the indexes of the two items, counted as ItemError.Index is
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("id %q is also that of item %d, want each id once", e.ID, e.First)
}

// SyntaxError says that an answer is not JSON. If the answer is only the beginning of JSON, it matches
// io.ErrUnexpectedEOF.
type SyntaxError struct {
	Offset int64 // how many bytes of the answer were decoded; the mistake comes right after them, or in the value there
	// Line and Column are those of the wrong byte, or of the end of the answer, each from 1. A column counts bytes.
	// Both are 0 if they are not known.
	Line, Column int
	Err          error
}

func (e *SyntaxError) Error() string {
	where := ""
	if e.Line > 0 {
		where = fmt.Sprintf(" (line %d, column %d)", e.Line, e.Column)
	}
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the JSON ends early, after byte %d%s", e.Offset, where)
	}
	return fmt.Sprintf("invalid JSON after byte %d%s: %v", e.Offset, where, e.Err)
}

// Unwrap returns the error of the JSON decoder.
func (e *SyntaxError) Unwrap() error { return e.Err }

// TooLargeError says that an answer has more bytes than MaxBytes allows.
type TooLargeError struct {
	Limit int64 // MaxBytes: the bytes that an answer may have after decompression
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", e.Limit)
}

// StatusError says that an HTTP source answered with a status other than success. It does not show the body of the
// answer, which may repeat secrets of the request.
type StatusError struct {
	Code       int           // the HTTP status, such as 503
	RetryAfter time.Duration // how long the source wants to be left alone; 0 if it did not say
}

var _ drm.Retryable = (*StatusError)(nil)

// Retryable implements drm.Retryable. again is true if the status may pass (408, 425, 429, and 500 and above except
// 501): the source may be asked again when after has passed, which is RetryAfter. After another status, such as 404, it
// is not asked before the next poll.
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
