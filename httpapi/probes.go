package httpapi

import (
	"net/http"

	"github.com/distributed-resource-manager/drm"
)

// statusJSON is the body of an answer to a probe.
type statusJSON struct {
	Status string  `json:"status"`
	Reason string  `json:"reason"`
	Since  *string `json:"since"`
	Until  *string `json:"until"`
}

// hangs is the status of a member whose loop does not answer.
const hangs = "hangs"

// live answers a liveness probe: whether it would help to kill the process. It would not while the member starts,
// whatever it waits for.
func (h *Handler) live(w http.ResponseWriter, r *http.Request) {
	h.probed(w, r, func(drm.HealthState) bool { return true })
}

// ready answers a readiness probe: whether the member handles what it owns.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	h.probed(w, r, func(s drm.HealthState) bool { return s == drm.HealthReady })
}

// probed answers a probe. A member that is not alive is not good enough for any.
func (h *Handler) probed(w http.ResponseWriter, r *http.Request, good func(drm.HealthState) bool) {
	err := h.answers(r.Context())
	s := h.health.Status()
	body := statusJSON{Status: string(s.State), Reason: s.Reason, Since: stamp(s.Since), Until: stamp(s.Until)}
	code := http.StatusOK
	switch {
	case err != nil && s.State != drm.HealthEnded:
		body = statusJSON{Status: hangs, Reason: err.Error()}
		code = http.StatusServiceUnavailable
	case err != nil, !good(s.State):
		code = http.StatusServiceUnavailable
	}
	answer(w, code, body)
}
