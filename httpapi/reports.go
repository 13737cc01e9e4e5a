package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// mostBody is how many bytes the body of a request may have.
const mostBody = 16 << 10

// wantToken is what is accepted as a token.
const wantToken = "the token that the handler was given: a whole number from 1 on, or a string with its digits"

// outcome is what a service reports.
type outcome bool

const (
	broke outcome = false // what the handler began no longer works
	works outcome = true  // it works again
)

// reportJSON is the body of a report.
type reportJSON struct {
	token int64
	err   string
}

// report returns what answers reports about one resource. escaped is its id as the path has it.
func (h *Handler) report(escaped string, what outcome) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := url.PathUnescape(escaped)
		if err != nil { // net/http has parsed the path
			refuse(w, http.StatusBadRequest, wrong("id", escaped, "a percent-encoded path segment"))
			return
		}
		if f, ok := badID(id); !ok {
			refuse(w, http.StatusBadRequest, f)
			return
		}
		body, f, code := readReport(w, r, what)
		if code != 0 {
			refuse(w, code, f)
			return
		}
		m := h.manager(w, r)
		if m == nil {
			return
		}
		if what == works {
			err = m.Report(id, body.token, nil)
		} else {
			err = m.Fail(id, body.token, body.reason())
		}
		h.reported(w, m, id, body.token, err)
	}
}

// reason returns the error of a report; nil if it says none.
func (b reportJSON) reason() error {
	if b.err == "" {
		return nil
	}
	return errors.New(b.err)
}

// reported answers a report for which the member has returned err.
func (h *Handler) reported(w http.ResponseWriter, m *drm.Manager, id string, token int64, err error) {
	switch {
	case err == nil:
		answer(w, http.StatusOK, struct {
			ID    string `json:"id"`
			Token int64  `json:"token"`
		}{id, token})
	case !errors.Is(err, drm.ErrNotHeld):
		h.failed(w, err)
	default:
		now, ok := m.HeldClaim(id)
		if !ok {
			refuse(w, http.StatusNotFound, failure{
				Error: fmt.Sprintf("resource %q is not handled by member %q now", excerpt.Of(id), m.ID()),
			})
			return
		}
		held := heldOf(now)
		refuse(w, http.StatusConflict, failure{
			Error: fmt.Sprintf("resource %q is handled under token %d now, not %d", excerpt.Of(id), held.Token, token),
			Held:  &held,
		})
	}
}

// readReport reads the body of a report. code is not 0 if the body is refused.
func readReport(w http.ResponseWriter, r *http.Request, what outcome) (body reportJSON, f failure, code int) {
	const want = `a JSON object: {"token":TOKEN,"error":"TEXT"}`
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		const found = "a body that is longer"
		return body, wrong("body", found, fmt.Sprintf("at most %d bytes", mostBody)), http.StatusRequestEntityTooLarge
	}
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	switch {
	case err != nil:
		return body, wrong("body", err.Error(), want), http.StatusBadRequest
	case fields == nil:
		return body, wrong("body", "null", want), http.StatusBadRequest
	}
	for name, value := range fields {
		switch name {
		case "token":
			var ok bool
			if body.token, ok = tokenOf(value); !ok {
				return body, wrong(name, string(value), wantToken), http.StatusBadRequest
			}
		case "error":
			if json.Unmarshal(value, &body.err) != nil {
				return body, wrong(name, string(value), "a text"), http.StatusBadRequest
			}
		default:
			return body, wrong(name, string(value), "token and error only"), http.StatusBadRequest
		}
	}
	switch {
	case body.token == 0:
		return body, wrong("token", "", wantToken), http.StatusBadRequest
	case what == works && body.err != "":
		return body, wrong("error", body.err, "none: this path says that the resource works"), http.StatusBadRequest
	}
	return body, failure{}, 0
}

// tokenOf reads a token: a JSON number, or a string with its digits, since JavaScript's numbers lose digits above 2^53.
func tokenOf(value json.RawMessage) (token int64, ok bool) {
	text := string(value)
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	token, err := strconv.ParseInt(text, 10, 64)
	return token, err == nil && token > 0 && strconv.FormatInt(token, 10) == text
}

// badID says what is wrong with an id; ok is true if nothing is.
func badID(id string) (f failure, ok bool) {
	var input *drm.InputError
	if err := (drm.Resource{ID: id}).Validate(); errors.As(err, &input) {
		return wrong(input.Field, input.Value, input.Want), false
	}
	return failure{}, true
}

// wrong says what is wrong with a request.
func wrong(field, value, want string) failure {
	value = excerpt.Of(value)
	return failure{
		Error: (&drm.InputError{Field: field, Value: value, Want: want}).Error(),
		Field: field,
		Value: value,
		Want:  want,
	}
}
