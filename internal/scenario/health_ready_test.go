package scenario_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/httpapi"
)

// readyz waits until a member's /readyz answers with a status and a reason. The member must be alive all the time.
func readyz(tb testing.TB, m *drm.Manager, code int, status, reason string) {
	tb.Helper()
	h, err := httpapi.New(httpapi.Config{Health: m.Health()})
	if err != nil {
		tb.Fatal(err)
	}
	probe := func(path string) (code int, got struct{ Status, Reason string }) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			tb.Fatal(err)
		}
		return w.Code, got
	}
	await(tb, "/readyz says "+status+" because of "+reason, func() bool {
		if code, got := probe("/healthz"); code != http.StatusOK && got.Status != "hangs" {
			tb.Errorf("/healthz: %d, %+v", code, got)
		}
		is, got := probe("/readyz")
		return is == code && got.Status == status && strings.Contains(got.Reason, reason) &&
			(reason != "" || got.Reason == "")
	})
}

func TestReadyzIsUnreadyWhileAMemberSaysThatItCannotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var says health
	a, b := w.start(w.config("a", newRecorder(t))), w.start(w.probed("b", newRecorder(t), says.ready))
	readyz(t, b, http.StatusOK, "ready", "")
	says.set(errSick)
	readyz(t, b, http.StatusServiceUnavailable, "unready", errSick.Error())
	readyz(t, a, http.StatusOK, "ready", "")
	says.set(nil)
	readyz(t, b, http.StatusOK, "ready", "")
}

// Too few members are ready, so that this one goes on. It is no healthier for that.
func TestReadyzIsUnreadyAlsoWhereThatIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	says := health{err: errSick}
	m := w.start(w.probed("a", newRecorder(t), says.ready))
	w.allocate("r")
	await(t, "it handles what it gets", func() bool { return len(m.Held()) == 1 })
	readyz(t, m, http.StatusServiceUnavailable, "unready", errSick.Error())
	if n := len(m.Held()); n != 1 {
		t.Errorf("it handles %d", n)
	}
	says.set(nil)
	readyz(t, m, http.StatusOK, "ready", "")
}

func TestReadyzIsUnreadyWhileNearlyAllFailsOnThisMemberAlone(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newFailingOn(t, "b")
	w.catalogueOf(60)
	a, b := w.start(w.quickly("a", r)), w.start(w.quickly("b", r))
	readyz(t, b, http.StatusServiceUnavailable, "unready", "resources fail")
	readyz(t, a, http.StatusOK, "ready", "")
}
