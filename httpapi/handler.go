package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// loopTimeout is how long a member's loop has to answer. One that takes longer hangs.
const loopTimeout = time.Second

// Config configures New.
type Config struct {
	// Health is that of the member, which need not have been started. Required.
	Health *drm.Health
	// Hosts are the hosts, without a port, that requests below /v1/ may name in the Host header, besides localhost and
	// loopback addresses; "*" stands for all. A web page whose name was made to mean a loopback address (DNS rebinding)
	// names another host. Requests over a unix socket may name any. Default: none.
	Hosts []string
}

// Handler answers the requests. It is safe for use by many requests at once. It needs the path of a request as the
// client has sent it: a resource's id may have any characters, and http.ServeMux redirects where an id has "//" or is
// "..", say.
type Handler struct {
	health *drm.Health
	hosts  []string
	lists  chan struct{} // has one element for each list that is being made
	loop   time.Duration // how long a member's loop has to answer
}

var _ http.Handler = (*Handler)(nil)

// New makes a Handler. The error is a *drm.InputError that names the field.
func New(cfg Config) (*Handler, error) {
	if cfg.Health == nil {
		return nil, &drm.InputError{Field: "Health", Value: "nil", Want: "the Health of a member"}
	}
	return &Handler{
		health: cfg.Health, hosts: slices.Clone(cfg.Hosts), lists: make(chan struct{}, mostLists), loop: loopTimeout,
	}, nil
}

// endpoint is what answers requests for one path.
type endpoint struct {
	method string // GET stands for HEAD too
	probe  bool   // also for those that foreign refuses
	serve  http.HandlerFunc
}

// endpoint returns what answers requests for a path, as the client has escaped it; ok is false if nothing does.
func (h *Handler) endpoint(path string) (e endpoint, ok bool) {
	switch path {
	case "/healthz":
		return endpoint{http.MethodGet, true, h.live}, true
	case "/readyz":
		return endpoint{http.MethodGet, true, h.ready}, true
	case "/v1/held":
		return endpoint{http.MethodGet, false, h.held}, true
	case "/v1/weight":
		return endpoint{http.MethodPut, false, h.weigh}, true
	case "/v1/reannounce":
		return endpoint{http.MethodPost, false, h.reannounce}, true
	}
	if name, ok := profileNamed(path); ok {
		return endpoint{http.MethodGet, false, h.profile(name)}, true
	}
	rest, ok := strings.CutPrefix(path, "/v1/resources/")
	if !ok {
		return endpoint{}, false
	}
	id, action, ok := strings.Cut(rest, "/")
	if !ok || id == "" {
		return endpoint{}, false
	}
	switch action {
	case "fail":
		return endpoint{http.MethodPost, false, h.report(id, broke)}, true
	case "ok":
		return endpoint{http.MethodPost, false, h.report(id, works)}, true
	}
	return endpoint{}, false
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, ok := h.endpoint(r.URL.EscapedPath())
	if !ok {
		refuse(w, http.StatusNotFound, failure{
			Error: "no such path: there are GET /healthz, /readyz, /v1/held and /v1/profiles/{name} (allocs, cpu, " +
				"goroutine, heap, mutex, threadcreate), PUT /v1/weight, and " +
				"POST /v1/reannounce, /v1/resources/{id}/fail and /v1/resources/{id}/ok, where / in an id is " +
				"written %2F",
		})
		return
	}
	if r.Method != e.method && (e.method != http.MethodGet || r.Method != http.MethodHead) {
		allowed := e.method
		if allowed == http.MethodGet {
			allowed = "GET, HEAD"
		}
		w.Header().Set("Allow", allowed)
		refuse(w, http.StatusMethodNotAllowed, failure{Error: "this path takes " + allowed + " only"})
		return
	}
	if !e.probe {
		if why := h.foreign(r); why != "" {
			refuse(w, http.StatusForbidden, failure{Error: why})
			return
		}
	}
	e.serve(w, r)
}

// manager returns the member, if it can be asked. Otherwise it answers the request, and returns nil.
func (h *Handler) manager(w http.ResponseWriter, r *http.Request) *drm.Manager {
	m := h.health.Manager()
	if m == nil || h.health.Status().State == drm.HealthEnded {
		h.unavailable(w)
		return nil
	}
	if err := h.answers(r.Context()); err != nil {
		refuse(w, http.StatusServiceUnavailable, failure{Error: err.Error()})
		return nil
	}
	return m
}

// answers returns nil if the member works, or may yet.
func (h *Handler) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.loop)
	defer cancel()
	return h.health.Live(ctx)
}

// unavailable answers that there is no member that could be asked.
func (h *Handler) unavailable(w http.ResponseWriter) {
	s := h.health.Status()
	f := failure{Error: s.Reason, Status: string(s.State), Until: stamp(s.Until)}
	if s.State == drm.HealthStarting {
		f.Error = "the member has not joined yet: " + s.Reason
		w.Header().Set("Retry-After", "1")
	}
	refuse(w, http.StatusServiceUnavailable, f)
}

// reannounce makes the member handle everything again.
func (h *Handler) reannounce(w http.ResponseWriter, r *http.Request) {
	m := h.manager(w, r)
	if m == nil {
		return
	}
	n, err := m.Reannounce()
	if err != nil {
		h.failed(w, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Resources int `json:"resources"`
	}{n})
}

// failed answers with an error of the member for which the client is not to blame.
func (h *Handler) failed(w http.ResponseWriter, err error) {
	if errors.Is(err, drm.ErrStopped) {
		h.unavailable(w)
		return
	}
	refuse(w, http.StatusInternalServerError, failure{Error: err.Error()})
}
