package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/httpapi"
	"github.com/distributed-resource-manager/drm/internal/member"
)

// patience bounds each wait. The machine may be slow.
const patience = time.Minute

func TestHeldHasWhatTheMemberHandles(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	m := s.start(`{"id":"b","x":"<&>"}`, `{"id":"a/ü ?"}`, `{"id":"c"}`)
	tokens := map[string]int64{}
	for _, h := range m.Held() {
		tokens[h.Resource] = h.Token
	}
	got := s.get("/v1/held")
	list := got.list(t)
	if got.code != http.StatusOK || got.Member != "m" || got.App != "app" || len(list) != 3 {
		t.Fatalf("%d: %s", got.code, got.text)
	}
	for i, id := range []string{"a/ü ?", "b", "c"} {
		r := list[i]
		if r.ID != id || r.Token != tokens[id] || r.State != "active" || r.Error != "" || r.Since.IsZero() ||
			r.ValidMS <= 0 || r.ValidMS > 10_000 {
			t.Errorf("resource %d: %+v", i, r)
		}
	}
	if string(list[1].Data) != `{"id":"b","x":"<&>"}` {
		t.Errorf("data %s", list[1].Data)
	}
	if one := s.get("/v1/held?id=" + url.QueryEscape("a/ü ?")).list(t); len(one) != 1 || one[0].ID != "a/ü ?" {
		t.Errorf("one: %+v", one)
	}
	if none := s.get("/v1/held?id=d"); none.code != http.StatusOK || string(none.Held) != "[]" {
		t.Errorf("none: %s", none.text)
	}
	for _, query := range []string{"?x=1", "?id=a&id=b", "?id=", "?id=%zz", "?id=%01"} {
		if bad := s.get("/v1/held" + query); bad.Field == "" || bad.Want == "" {
			t.Errorf("%s: %s", query, bad.text)
		} else {
			s.fails(bad, http.StatusBadRequest)
		}
	}
	if err := m.Report("b", tokens["b"], errors.New("it is slow")); err != nil {
		t.Fatal(err)
	}
	s.await("the report arrives", func() bool {
		b := s.get("/v1/held?id=b").list(t)
		return b[0].State == "failed" && b[0].Error == "it is slow"
	})
}

// So many resources do not fit into one write, or into the buffers on the way.
func TestALongListArrivesWhole(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var all []string
	for i := range 300 {
		all = append(all, fmt.Sprintf(`{"id":"r%03d","x":%q}`, i, strings.Repeat("x", 5000)))
	}
	s.start(all...)
	list := s.get("/v1/held").list(t)
	if len(list) != 300 || !slices.IsSortedFunc(list, func(a, b resource) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("%d resources", len(list))
	}
	for i, r := range list {
		if string(r.Data) != all[i] {
			t.Fatalf("resource %d: %s", i, r.Data)
		}
	}
}

func TestReannounceMakesAllBeHandledAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(`{"id":"a"}`, `{"id":"b"}`)
	got := s.post("/v1/reannounce", "")
	if got.code != http.StatusOK || got.Resources != 2 {
		t.Errorf("%d: %s", got.code, got.text)
	}
	s.told("handle")
	s.told("handle")
}

func TestTheWeightIsSet(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(`{"id":"a"}`)
	if got := s.ask(http.MethodPut, "/v1/weight", `{"weight":40}`, nil); got.code != http.StatusOK ||
		got.text != `{"weight":40}`+"\n" {
		t.Errorf("%d: %q", got.code, got.text)
	}
	if n := s.weight(); n != 40 {
		t.Errorf("the member has the weight %d", n)
	}
	for _, body := range []string{
		"", "40", "null", "{}", `{"weight":"40"}`, `{"weight":null}`, `{"weight":1.5}`, `{"weight":-1}`,
		`{"weight":1001}`, `{"weight":1,"why":"x"}`,
	} {
		s.fails(s.ask(http.MethodPut, "/v1/weight", body, nil), http.StatusBadRequest, "want", "weight")
	}
	s.fails(s.post("/v1/weight", `{"weight":1}`), http.StatusMethodNotAllowed, "PUT")
	origin := func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }
	s.fails(s.ask(http.MethodPut, "/v1/weight", `{"weight":1}`, origin), http.StatusForbidden)
}

// weight returns the weight that the member's key says.
func (s *stage) weight() int {
	s.t.Helper()
	c, err := drm.NewClient(s.t.Context(), drm.ClientConfig{App: s.cfg.App, Etcd: s.cfg.Etcd})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	members, err := c.Members(s.t.Context())
	if err != nil || len(members) != 1 {
		s.t.Fatalf("%+v, %v", members, err)
	}
	return members[0].Weight
}

func TestAServiceReportsOnItsResources(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const id = "a/b ü?%.."
	m := s.start(`{"id":"`+id+`"}`, `{"id":"other"}`)
	held, _ := m.HeldClaim(id)
	token := held.Claim.Token
	at := "/v1/resources/" + url.PathEscape(id)
	if !strings.Contains(at, "%2F") {
		t.Fatal(at)
	}

	if err := m.Report(id, token, errors.New("it is slow")); err != nil {
		t.Fatal(err)
	}
	got := s.post(at+"/ok", fmt.Sprintf(`{"token":%d}`, token))
	if got.code != http.StatusOK || got.ID != id || got.Token != token {
		t.Errorf("ok: %d: %s", got.code, got.text)
	}
	s.await("it is active again", func() bool {
		now, ok := m.HeldClaim(id)
		return ok && now.State == drm.StateActive
	})

	s.fails(s.post(at+"/fail", `{"token":1}`), http.StatusConflict, fmt.Sprintf("under token %d now, not 1", token))
	var now resource
	conflict := s.post(at+"/ok", `{"token":"9223372036854775807"}`)
	if s.fails(conflict, http.StatusConflict); json.Unmarshal(conflict.Held, &now) != nil || now.ID != id ||
		now.Token != token || now.State != "active" {
		t.Errorf("what is handled: %s", conflict.text)
	}
	s.fails(s.post("/v1/resources/none/fail", `{"token":1}`), http.StatusNotFound, `"none"`, `member "m"`)

	for _, body := range []string{`{"token":%d,"error":"it is wedged"}`, `{"token":"%d"}`} {
		if got := s.post(at+"/fail", fmt.Sprintf(body, token)); got.code != http.StatusOK {
			t.Errorf("fail: %d: %s", got.code, got.text)
		}
		s.told("terminate " + id)
		s.told("handle " + id)
		s.await("it is handled again", func() bool { _, ok := m.HeldClaim(id); return ok })
	}
}

func TestAReportThatCannotBeReadNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(`{"id":"a"}`)
	for _, c := range []struct{ body, field string }{
		{``, "body"},
		{`x`, "body"},
		{`null`, "body"},
		{`[]`, "body"},
		{`{"token":1} {"token":1}`, "body"},
		{`{}`, "token"},
		{`{"token":0}`, "token"},
		{`{"token":-1}`, "token"},
		{`{"token":1.0}`, "token"},
		{`{"token":1e3}`, "token"},
		{`{"token":"01"}`, "token"},
		{`{"token":"+1"}`, "token"},
		{`{"token":" 1"}`, "token"},
		{`{"token":""}`, "token"},
		{`{"token":"x"}`, "token"},
		{`{"token":null}`, "token"},
		{`{"token":true}`, "token"},
		{`{"token":9223372036854775808}`, "token"},
		{`{"token":1,"error":1}`, "error"},
		{`{"token":1,"eror":"x"}`, "eror"},
	} {
		got := s.post("/v1/resources/a/fail", c.body)
		if s.fails(got, http.StatusBadRequest, c.field); got.Field != c.field || got.Want == "" {
			t.Errorf("%s: %s", c.body, got.text)
		}
	}
	got := s.post("/v1/resources/a/ok", `{"token":1,"error":"x"}`)
	if s.fails(got, http.StatusBadRequest, "error"); got.Field != "error" {
		t.Error(got.text)
	}
	s.fails(s.post("/v1/resources/a%01/ok", `{"token":1}`), http.StatusBadRequest, "id")
	s.fails(s.post("/v1/resources/"+strings.Repeat("a", 513)+"/ok", `{"token":1}`), http.StatusBadRequest, "id")
	long := `{"token":1,"error":"` + strings.Repeat("x", 20_000) + `"}`
	s.fails(s.post("/v1/resources/a/fail", long), http.StatusRequestEntityTooLarge, "16384")
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start()
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v1/held/", "/v1/resources/a", "/v1/resources//fail", "/v1/resources/a/b/fail",
		"/v1/resources/a/fail/", "/v2/held", "/healthz/",
	} {
		s.fails(s.get(path), http.StatusNotFound, "/v1/held")
	}
	for path, allow := range map[string]string{
		"/v1/held": "GET, HEAD", "/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/v1/reannounce": "POST",
		"/v1/resources/a/fail": "POST", "/v1/resources/a/ok": "POST",
	} {
		got := s.ask(http.MethodPut, path, "{}", nil)
		if s.fails(got, http.StatusMethodNotAllowed, allow); got.header.Get("Allow") != allow {
			t.Errorf("%s: Allow: %s", path, got.header.Get("Allow"))
		}
	}
	s.fails(s.post("/healthz", ""), http.StatusMethodNotAllowed)
	s.fails(s.get("/v1/reannounce"), http.StatusMethodNotAllowed)
	if got := s.ask(http.MethodHead, "/v1/held", "", nil); got.code != http.StatusOK || got.text != "" {
		t.Errorf("HEAD: %+v", got)
	}
}

// A page that somebody opens on this machine must not be able to ask or tell the member anything.
func TestRequestsOfWebPagesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(`{"id":"a"}`)
	origin := func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	s.fails(s.ask("GET", "/v1/held", "", origin), http.StatusForbidden, "Origin", "evil.example")
	s.fails(s.ask("POST", "/v1/reannounce", "", origin), http.StatusForbidden)
	s.fails(s.ask("POST", "/v1/resources/a/fail", `{"token":1}`, origin), http.StatusForbidden)
	for _, name := range []string{"evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "[::2]:1"} {
		s.fails(s.ask("GET", "/v1/held", "", host(name)), http.StatusForbidden, "Host", name)
		s.fails(s.ask("POST", "/v1/reannounce", "", host(name)), http.StatusForbidden)
		if got := s.ask("GET", "/healthz", "", host(name)); got.code != http.StatusOK {
			t.Errorf("a probe: %d: %s", got.code, got.text)
		}
	}
	for _, name := range []string{"localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:9", "[::1]", "[::1]:80"} {
		if got := s.ask("GET", "/v1/held", "", host(name)); got.code != http.StatusOK {
			t.Errorf("%s: %d: %s", name, got.code, got.text)
		}
	}
	s.serve(httpapi.Config{Health: s.health, Hosts: []string{"good.example"}}, patience)
	if got := s.ask("GET", "/v1/held", "", host("good.example:80")); got.code != http.StatusOK {
		t.Errorf("a host of Hosts: %d: %s", got.code, got.text)
	}
	s.fails(s.ask("GET", "/v1/held", "", host("evil.example")), http.StatusForbidden)
	s.serve(httpapi.Config{Health: s.health, Hosts: []string{"*"}}, patience)
	if got := s.ask("GET", "/v1/held", "", host("any.example:80")); got.code != http.StatusOK {
		t.Errorf("any host: %d: %s", got.code, got.text)
	}
	s.fails(s.ask("GET", "/v1/held", "", origin), http.StatusForbidden)
}

func TestProbesFollowTheMember(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	probe := func(path string, code int, status, reason string) {
		t.Helper()
		got := s.get(path)
		if got.code != code || got.Status != status || !strings.Contains(got.Reason, reason) {
			t.Errorf("%s: %d %s, want %d %s with %q", path, got.code, got.text, code, status, reason)
		}
	}
	unavailable := func(status string, parts ...string) {
		t.Helper()
		held := s.get("/v1/held")
		if s.fails(held, http.StatusServiceUnavailable, parts...); held.Status != status {
			t.Errorf("it is %q, want %q: %s", held.Status, status, held.text)
		}
		s.fails(s.post("/v1/reannounce", ""), http.StatusServiceUnavailable, parts...)
		s.fails(s.post("/v1/resources/a/fail", `{"token":1}`), http.StatusServiceUnavailable, parts...)
		s.fails(s.post("/v1/resources/a/ok", `{"token":1}`), http.StatusServiceUnavailable, parts...)
	}
	probe("/healthz", http.StatusOK, "starting", "not begun to start")
	probe("/readyz", http.StatusServiceUnavailable, "starting", "not begun to start")
	unavailable("starting", "has not joined yet")

	m := s.start()
	probe("/healthz", http.StatusOK, "ready", "")
	probe("/readyz", http.StatusOK, "ready", "")
	if got := s.get("/readyz"); got.Since == nil || got.Until != nil || got.Reason != "" {
		t.Errorf("ready: %s", got.text)
	}

	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	probe("/healthz", http.StatusServiceUnavailable, "ended", "was stopped")
	probe("/readyz", http.StatusServiceUnavailable, "ended", "was stopped")
	unavailable("ended", "was stopped")
}

func TestAStartThatWaitsIsAliveAndNotReady(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first := s.cfg
	first.Health, first.Address = nil, "host-7"
	m, err := drm.Start(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s.cfg.LeaseTTL = time.Minute
	go func() {
		_, err := drm.Start(ctx, s.cfg)
		ended <- err
	}()
	s.await("it waits for its id", func() bool { return strings.Contains(s.get("/readyz").Reason, "host-7") })
	for path, code := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		got := s.get(path)
		if got.code != code || got.Status != "starting" || got.Since == nil || got.Until == nil ||
			got.Until.Sub(*got.Since) < time.Minute {
			t.Errorf("%s: %d: %s", path, got.code, got.text)
		}
	}
	got := s.get("/v1/held")
	if s.fails(got, http.StatusServiceUnavailable, "host-7"); got.header.Get("Retry-After") != "1" ||
		got.Status != "starting" || got.Until == nil {
		t.Errorf("%v: %s", got.header, got.text)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("the start has succeeded")
	}
	if got := s.get("/healthz"); got.code != http.StatusServiceUnavailable || got.Status != "ended" {
		t.Errorf("after a start that failed: %d: %s", got.code, got.text)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Requests to a member whose loop hangs must not hang with it.
func TestAMemberWhoseLoopHangsIsNotAlive(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var probe member.Probe
	ctx := member.WithOptions(t.Context(), member.Options{Observe: func(p member.Probe) { probe = p }})
	m, err := drm.Start(ctx, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop(context.Background()) })
	release := sync.OnceFunc(probe.Wedge())
	t.Cleanup(release) // else the member would not stop
	s.serve(httpapi.Config{Health: s.health}, 100*time.Millisecond)
	for _, path := range []string{"/healthz", "/readyz"} {
		got := s.get(path)
		if got.code != http.StatusServiceUnavailable || got.Status != "hangs" || got.Reason == "" {
			t.Errorf("%s: %d: %s", path, got.code, got.text)
		}
	}
	s.fails(s.get("/v1/held"), http.StatusServiceUnavailable, "loop does not answer")
	s.fails(s.post("/v1/resources/a/fail", `{"token":1}`), http.StatusServiceUnavailable, "loop does not answer")
	release()
	s.serve(httpapi.Config{Health: s.health}, patience)
	if got := s.get("/healthz"); got.code != http.StatusOK {
		t.Errorf("released: %d: %s", got.code, got.text)
	}
}

func TestNewWantsAHealth(t *testing.T) {
	var input *drm.InputError
	if _, err := httpapi.New(httpapi.Config{}); !errors.As(err, &input) || input.Field != "Health" {
		t.Errorf("error %v", err)
	}
}
