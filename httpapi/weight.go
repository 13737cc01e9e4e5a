package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// weightTimeout is how long a request waits until etcd has the member's weight. The member goes on trying after that.
const weightTimeout = 10 * time.Second

// weigh gives the member another weight.
func (h *Handler) weigh(w http.ResponseWriter, r *http.Request) {
	const want = `a JSON object: {"weight":NUMBER}`
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		refuse(w, http.StatusBadRequest, wrong("body", err.Error(), want))
		return
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || len(fields) != 1 || fields["weight"] == nil {
		refuse(w, http.StatusBadRequest, wrong("body", string(text), want))
		return
	}
	var weight int
	if err := json.Unmarshal(fields["weight"], &weight); err != nil || string(fields["weight"]) == "null" {
		refuse(w, http.StatusBadRequest, wrong("weight", string(fields["weight"]), "a whole number from 0 to 1000"))
		return
	}
	m := h.manager(w, r)
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), weightTimeout)
	defer cancel()
	err = m.SetWeight(ctx, weight)
	var input *drm.InputError
	switch {
	case errors.As(err, &input):
		refuse(w, http.StatusBadRequest, wrong(input.Field, input.Value, input.Want))
	case errors.Is(err, context.DeadlineExceeded):
		refuse(w, http.StatusServiceUnavailable, failure{Error: err.Error() + "; the member goes on trying"})
	case err != nil:
		h.failed(w, err)
	default:
		answer(w, http.StatusOK, struct {
			Weight int `json:"weight"`
		}{weight})
	}
}
