package httpapi

import (
	"net/http"
	"time"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

// failure is the body of every answer that says that a request was refused.
type failure struct {
	Error string `json:"error"`
	// Field, Value and Want say what is wrong with the request: the field, what it has, and what is accepted.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	Want  string `json:"want,omitempty"`
	// Held is what the member handles in place of what the request is about.
	Held *heldJSON `json:"held,omitempty"`
	// Status and Until say how far a member is that cannot be asked.
	Status string  `json:"status,omitempty"`
	Until  *string `json:"until,omitempty"`
}

// refuse answers that a request was refused.
func refuse(w http.ResponseWriter, code int, f failure) { answer(w, code, f) }

// answer sends a JSON body.
func answer(w http.ResponseWriter, code int, body any) {
	text, err := jsontext.Marshal(body)
	if err != nil { // this cannot be: all bodies are of types that have a JSON
		code, text = http.StatusInternalServerError, []byte(`{"error":"cannot write the answer"}`)
	}
	begin(w, code)
	_, _ = w.Write(append(text, '\n')) // an error says that the client is gone
}

// begin sends the headers that all answers have.
func begin(w http.ResponseWriter, code int) { beginAs(w, code, "application/json") }

// beginAs is begin for an answer that is not JSON.
func beginAs(w http.ResponseWriter, code int, kind string) {
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
}

// stamp returns a time as all answers have it; nil if it is zero.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}
