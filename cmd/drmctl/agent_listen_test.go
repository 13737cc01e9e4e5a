//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listener is an agent, as a process of its own, that answers HTTP requests.
type listener struct {
	*process
	t    *testing.T
	log  *beginning
	http *http.Client
	url  string // what comes before the path of a request
}

// listener starts an agent with these flags, which is killed when the test ends, and waits until it says where it
// listens.
func (l *lab) listener(args ...string) *listener {
	l.t.Helper()
	a := &listener{t: l.t, log: &beginning{}}
	p, err := startProcess(a.log, append(append(l.args(), "agent", "--allocate-only"), args...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	a.process = p
	l.t.Cleanup(func() { _ = p.kill() })
	at := a.says(`(?m)^listening: (\S+)$`)[1]
	var dialer net.Dialer
	a.url, a.http = at, &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		a.url = "http://agent"
		a.http.Transport = &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
		}
	}
	return a
}

// says waits until the agent has printed something, and returns what the pattern matches.
func (a *listener) says(pattern string) (match []string) {
	a.t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(a.t, func() error {
		if match = re.FindStringSubmatch(a.log.all()); match == nil {
			return fmt.Errorf("it has not said %s: %s", pattern, a.log.all())
		}
		return nil
	})
	return match
}

// agentReply is an answer of an agent.
type agentReply struct {
	code                          int
	Status, Reason, Error, Member string
	Until                         *time.Time
	Resources                     int
	Held                          json.RawMessage // a list, or what is handled instead of what a report is about
}

// heldResource is one resource that an agent handles.
type heldResource struct {
	ID      string
	Token   int64
	State   string
	ValidMS int64 `json:"valid_ms"`
	Data    map[string]any
}

// held asks what the agent handles.
func (a *listener) held(query string) (list []heldResource) {
	a.t.Helper()
	got := a.asks("GET", "/v1/held"+query, "")
	if err := json.Unmarshal(got.Held, &list); got.code != http.StatusOK || err != nil {
		a.t.Fatalf("held: %+v, %v", got, err)
	}
	return list
}

// asks sends a request, and again where the machine is so slow that the member's loop has not answered in time.
func (a *listener) asks(method, path, body string) (got agentReply) {
	a.t.Helper()
	eventually(a.t, func() error {
		if got = a.asksOnce(method, path, body); strings.Contains(got.Error+got.Reason, "loop does not answer") {
			return fmt.Errorf("%s %s: %+v", method, path, got)
		}
		return nil
	})
	return got
}

func (a *listener) asksOnce(method, path, body string) agentReply {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	got, err := a.http.Do(r)
	if err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, a.log.all())
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	all := agentReply{code: got.StatusCode}
	if err := json.Unmarshal(text, &all); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return all
}

// stopped ends the agent, which must end well.
func (a *listener) stopped() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	select {
	case <-a.done:
		if a.err != nil {
			a.t.Errorf("it ended with %v: %s", a.err, a.log.all())
		}
	case <-time.After(time.Minute):
		a.t.Error("it does not end")
	}
}

func TestAnAgentAnswersWhereItListens(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	socket := filepath.Join(t.TempDir(), "agent.sock")
	if stale, err := net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	} else { // as if a process had been killed
		stale.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = stale.Close()
	}
	for _, at := range []string{":0", "unix:" + socket} {
		a := l.listener("--id", "m", "--lease-ttl", "20s", "--handler-log", "--listen", at)
		a.says(`(?m)^ready: member m of app lab$`)
		for _, probe := range []string{"/healthz", "/readyz"} {
			if got := a.asks("GET", probe, ""); got.code != http.StatusOK || got.Status != "ready" {
				t.Errorf("%s %s: %+v", at, probe, got)
			}
		}
		const id = "a/b ü"
		l.ok("--wait", "allocate", "--id", id, "--data", `{"x":1}`)
		list := a.held("")
		if len(list) != 1 {
			t.Fatalf("%s: held: %+v", at, list)
		}
		held := list[0]
		if held.ID != id || held.State != "active" || held.ValidMS <= 0 || held.ValidMS > 20_000 ||
			held.Data["x"] != 1. ||
			held.Token != get[assignmentJSON](l, "lookup", id).Token {
			t.Errorf("%s: held: %+v", at, held)
		}
		if got := a.asks("POST", "/v1/reannounce", ""); got.code != http.StatusOK || got.Resources != 1 {
			t.Errorf("%s: reannounce: %+v", at, got)
		}
		eventually(t, func() error {
			if got := a.held("?id=" + url.QueryEscape(id)); len(got) != 1 {
				return fmt.Errorf("not handled again: %+v", got)
			}
			return nil
		})
		path := "/v1/resources/" + url.PathEscape(id)
		if got := a.asks("POST", path+"/ok", `{"token":1}`); got.code != http.StatusConflict || got.Error == "" {
			t.Errorf("%s: another token: %+v", at, got)
		}
		got := a.asks("POST", path+"/fail", fmt.Sprintf(`{"token":%d,"error":"it is wedged"}`, held.Token))
		if got.code != http.StatusOK {
			t.Errorf("%s: fail: %+v", at, got)
		}
		eventually(t, func() error {
			if a := get[assignmentJSON](l, "lookup", id); a.State != "active" || a.Token != held.Token {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
		l.ok("--wait", "deallocate", id)
		a.stopped()
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestAnAgentListensForThisMachineOnly(t *testing.T) {
	agent := []string{"agent", "--app", "a", "--allocate-only", "--handler-log", "--listen"}
	for at, want := range map[string]string{
		"0.0.0.0:80": "token", "example.org:80": "loopback", "80": "HOST:PORT", "unix:x": "/PATH",
	} {
		got := drmctl(t.Context(), append(agent, at)...)
		if got.code != exitUsage {
			t.Errorf("%s: exit code %d, want %d", at, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, "--listen", at, want)
	}
	socket := filepath.Join(t.TempDir(), "s")
	other, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got := drmctl(t.Context(), append(agent, "unix:"+socket)...)
	if got.code != exitFailed {
		t.Errorf("exit code %d, want %d", got.code, exitFailed)
	}
	checkOneLine(t, got.stderr, "--listen", socket, "another process listens there")
	if conn, err := net.Dial("unix", socket); err != nil {
		t.Errorf("the other process's socket is gone: %v", err)
	} else {
		_ = conn.Close()
	}
}

// A process of --handler-exec finds its agent by DRM_AGENT, and says that what it does no longer works.
func TestAProcessReportsToItsAgent(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	script, told := filepath.Join(dir, "run.sh"), filepath.Join(dir, "told")
	text := `printf '%s %s\n' "$DRM_AGENT" "$DRM_TOKEN" >> "$1"; exec sleep 1000`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := l.listener("--id", "m", "--lease-ttl", "20s", "--listen", ":0",
		"--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, told))
	l.ok("--wait", "allocate", "--id", "r", "--create")
	starts := func(n int) (last []string) {
		eventually(t, func() error {
			text, err := os.ReadFile(told)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			if err != nil || len(lines) != n {
				return fmt.Errorf("its process has begun: %q, %v; want %d times", text, err, n)
			}
			last = strings.Fields(lines[n-1])
			return nil
		})
		return last
	}
	first := starts(1)
	if len(first) != 2 || first[0] != a.url {
		t.Fatalf("the process was told %q, want %q and its token", first, a.url)
	}
	got := a.asks("POST", "/v1/resources/r/fail", `{"token":"`+first[1]+`","error":"it is wedged"}`)
	if got.code != http.StatusOK {
		t.Errorf("fail: %+v", got)
	}
	if second := starts(2); second[1] != first[1] {
		t.Errorf("it was begun again under %q, want %q", second, first)
	}
	a.stopped()
}

// A process that is to begin anew has its grace, the next one begins when it has ended, and nothing fails by that.
func TestReannounceEndsProcessesInOrder(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	script, told := filepath.Join(dir, "run.sh"), filepath.Join(dir, "told")
	text := `echo begin >> "$1"; trap 'echo term >> "$1"; sleep 0.5; echo end >> "$1"; exit 0' TERM
while :; do sleep 0.1; done`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := l.listener("--id", "m", "--lease-ttl", "20s", "--listen", ":0", "--handler-grace", "1m",
		"--handler-timeout", "1m", "--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, told))
	l.ok("--wait", "allocate", "--id", "r", "--create")
	says := func(want string) {
		t.Helper()
		eventually(t, func() error {
			text, err := os.ReadFile(told)
			if got := strings.Join(strings.Fields(string(text)), " "); err != nil || got != want {
				return fmt.Errorf("its processes have said %q, %v; want %q", got, err, want)
			}
			return nil
		})
	}
	says("begin")
	if got := a.asks("POST", "/v1/reannounce", ""); got.code != http.StatusOK || got.Resources != 1 {
		t.Errorf("reannounce: %+v", got)
	}
	says("begin term end begin")
	eventually(t, func() error {
		if got := a.held(""); len(got) != 1 {
			return fmt.Errorf("held: %+v", got)
		}
		return nil
	})
	a.stopped()
	says("begin term end begin term end")
	if log := a.log.all(); strings.Contains(log, "failed") {
		t.Errorf("something has failed: %s", log)
	}
}

// A member that is killed and starts again at once under its id waits for its own old key. Nobody should kill it for
// that, or send it work.
func TestAKilledAgentThatStartsAgainSaysForWhatItWaits(t *testing.T) {
	t.Parallel()
	const ttl = 12 * time.Second
	l := newLab(t)
	args := []string{
		"--id", "m", "--address", "host-7", "--lease-ttl", ttl.String(), "--handler-log", "--listen", ":0",
	}
	a := l.listener(args...)
	a.says(`(?m)^ready: `)
	if err := a.kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a = l.listener(args...)
	a.says(`the member id is in use; waiting until it is free`)
	var last agentReply
	for {
		live, ready := a.asks("GET", "/healthz", ""), a.asks("GET", "/readyz", "")
		if live.code != http.StatusOK {
			t.Fatalf("it is not alive: %+v", live)
		}
		if ready.code == http.StatusOK {
			break
		}
		if ready.code != http.StatusServiceUnavailable || ready.Status != "starting" || ready.Reason == "" {
			t.Fatalf("ready: %+v", ready)
		}
		if strings.Contains(ready.Reason, "host-7") {
			last = ready
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("it waits for ever: %+v", ready)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
	if last.Until == nil || last.Until.Before(began.Add(ttl)) || !strings.Contains(last.Reason, `the member id "m"`) {
		t.Errorf("it said: %+v", last)
	}
	a.says(`(?m)^ready: `)
	lines := regexp.MustCompile(`waiting for the member id to be free.*"address": "host-7".*"until"`).
		FindAllString(a.log.all(), -1)
	if len(lines) < 2 {
		t.Errorf("it said only %q while it waited for its id: %s", lines, a.log.all())
	}
	a.stopped()
}
