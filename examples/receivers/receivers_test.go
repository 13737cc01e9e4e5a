package receivers_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The receivers run in programs that print what they do: "start a 1" for the resource a whose field n is 1. Fields of
// the resource control a start. With fail, it fails. With wait, it goes on only when a line has come on the standard
// input, and then the request with the token and number in that line. With later, so many seconds pass on the
// receiver's clock. With count, the program also prints how many resources are known.
const (
	nodeProgram = `
		import { createServer } from 'node:http'
		import { createInterface } from 'node:readline'
		import { once } from 'node:events'
		import { receiver } from '../migration/node/sidecar.mjs'
		const parse = JSON.parse, parsed = new Set()
		JSON.parse = body => {
			const message = parse(body)
			parsed.add(message.token + ' ' + message.call)
			return message
		}
		const lines = createInterface({ input: process.stdin })
		lines.once('close', () => process.exit())
		const now = performance.now.bind(performance)
		let skipped = 0
		performance.now = () => now() + skipped
		const say = (what, r) => console.log(what + ' ' + r.id + ' ' + r.n)
		const { listener, known } = receiver({
			handleResource: async r => {
				if (r.fail) throw new Error('no')
				say('start', r)
				if (r.count) console.log('known ' + known.size)
				skipped += (r.later ?? 0) * 1000
				if (!r.wait) return
				const [line] = await once(lines, 'line')
				while (!parsed.has(line)) await new Promise(resolve => setTimeout(resolve, 5))
			},
			terminateResource: r => say('stop', r),
			handleFailedResource: r => say('handle_failed', r),
			handleFailedTermination: r => say('terminate_failed', r)
		})
		const server = createServer(listener)
		server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))`
	pythonProgram = `
import os, sys, threading, time
sys.path.insert(0, '.')
from receiver import Receiver, serve
def say(what, r): print(what, r['id'], r['n'], flush=True)
gate = threading.Semaphore(0)
wanted = None
now, skipped = time.monotonic, 0
time.monotonic = lambda: now() + skipped
def start(r):
    global skipped
    if r.get('fail'): raise RuntimeError('no')
    say('start', r)
    if r.get('count'): print('known', len(receiver.known), flush=True)
    skipped += r.get('later', 0)
    if r.get('wait'):
        gate.acquire()
        while receiver.known[r['id']].newest < wanted: time.sleep(0.005)
    return r
receiver = Receiver(start, lambda r: say('stop', r))
server = serve(receiver, 0)
threading.Thread(target=server.serve_forever, daemon=True).start()
print('port', server.server_port, flush=True)
for line in sys.stdin:
    wanted = tuple(map(int, line.split()))
    gate.release()
os._exit(0)`
)

// program is a running receiver.
type program struct {
	t     *testing.T
	url   string
	stdin io.WriteCloser
	lines chan string // what the program prints
	http  *http.Client
	name  string // what the receiver calls itself in its first answer, and has to in all
}

func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("needs " + name)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, stdin: stdin, lines: make(chan string, 100), http: &http.Client{Timeout: time.Minute}}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		_ = stdin.Close()
		for range p.lines { // the rest does not matter
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	p.url = "http://127.0.0.1:" + strings.TrimPrefix(p.said(), "port ")
	return p
}

// said returns the next line.
func (p *program) said() string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(time.Minute):
		p.t.Fatal("it says nothing")
		return ""
	}
}

// does fails the test unless these are the next lines.
func (p *program) does(what ...string) {
	p.t.Helper()
	for _, want := range what {
		if got := p.said(); got != want {
			p.t.Fatalf("it did %q, want %q", got, want)
		}
	}
}

func (p *program) post(body string) (status int, err error) {
	resp, err := p.http.Post(p.url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	name := resp.Header.Get("DRM-Instance")
	if p.name == "" {
		p.name = name
	}
	if name == "" || name != p.name {
		p.t.Errorf("the receiver calls itself %q, and before that %q", name, p.name)
	}
	return resp.StatusCode, resp.Body.Close()
}

func request(action, id string, token, call int, more string) string {
	return fmt.Sprintf(`{"action":%q,"token":%d,"call":%d,"error":"no","valid_ms":9999,"resource":{"id":%q,%s}}`,
		action, token, call, id, more)
}

// send posts a request about a, and fails the test unless the answer has the status.
func (p *program) send(status int, action string, token, call int, more string) {
	p.t.Helper()
	p.sendFor("a", status, action, token, call, more)
}

func (p *program) sendFor(id string, status int, action string, token, call int, more string) {
	p.t.Helper()
	if got, err := p.post(request(action, id, token, call, more)); got != status || err != nil {
		p.t.Errorf("%s %d, %d: status %d, %v, want %d", action, token, call, got, err, status)
	}
}

// TestTheReceiversObeyTheProtocol sends what an agent would send, and what would come over a disturbed network only.
func TestTheReceiversObeyTheProtocol(t *testing.T) {
	for name, args := range map[string][]string{
		"node":    {"--input-type=module", "-e", nodeProgram},
		"python3": {"-c", pythonProgram},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, args...)
			p.send(204, "handle", 5, 1, `"n":1`)
			p.does("start a 1")
			p.send(204, "handle", 5, 1, `"n":1`) // delivered twice
			p.send(204, "handle", 5, 2, `"n":2`)
			p.does("stop a 1", "start a 2")
			p.send(409, "handle", 5, 1, `"n":1`) // late
			p.send(204, "check", 5, 99, `"n":2`) // it runs, and this is no later request
			p.send(410, "check", 4, 99, `"n":2`) // not under this token
			p.send(404, "shout", 5, 99, `"n":2`) // nobody knows this action
			if got, err := p.post(`{"action":"instance","app":"app","member":"m","call":1}`); got != 204 || err != nil {
				t.Errorf("instance: status %d, %v", got, err)
			}
			p.send(204, "update", 5, 3, `"n":3`)
			p.does("stop a 2", "start a 3")
			p.send(204, "terminate", 5, 2, `"n":2`) // late
			p.send(409, "handle", 4, 99, `"n":0`)   // from a member that has lost the resource
			p.send(204, "terminate", 4, 100, `"n":0`)
			p.send(204, "handle", 6, 4, `"n":4`) // the member before died
			p.does("stop a 3", "start a 4")
			p.send(204, "terminate", 6, 6, `"n":4`)
			p.does("stop a 4")
			p.send(410, "check", 6, 99, `"n":4`) // it does not run
			p.send(204, "terminate", 6, 6, `"n":4`)
			p.send(409, "handle", 6, 5, `"n":4`)       // its terminate came first
			p.send(500, "handle", 6, 7, `"fail":true`) // refused, so that no terminate follows
			p.send(409, "handle", 6, 7, `"n":5`)       // nor may a repeat of it begin anything
			p.send(204, "handle", 6, 8, `"n":6`)       // after a failure, or a change: the same claim again
			p.does("start a 6")
			p.send(500, "update", 6, 9, `"fail":true`)
			p.does("stop a 6")
			if got, err := p.post(
				`{"action":"handle","token":7,"call":1,"valid_ms":0,"resource":{"id":"a","n":7}}`); got != 503 ||
				err != nil {
				t.Errorf("too late: status %d, %v", got, err)
			}
			if got, err := p.post(`no JSON`); got != 500 || err != nil {
				t.Errorf("no JSON: status %d, %v", got, err)
			}
			p.send(204, "handle_failed", 7, 2, `"n":7`)
			if name == "node" {
				p.does("handle_failed a 7")
			}

			// This start takes long, and is given up.
			var wg sync.WaitGroup
			wg.Go(func() { p.send(409, "handle", 8, 1, `"n":8,"wait":true`) })
			p.does("start a 8")
			p.send(204, "check", 8, 0, `"n":8`)                       // it is being worked on
			wg.Go(func() { p.send(409, "handle", 8, 2, `"n":9`) })    // waits for its turn
			wg.Go(func() { p.send(204, "terminate", 8, 3, `"n":8`) }) // so does this
			if _, err := io.WriteString(p.stdin, "8 3\n"); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			p.does("stop a 8") // and never begins with what came before its terminate

			// This start takes long, and its request comes twice: it begins once, and both requests get that answer.
			wg.Go(func() { p.send(204, "handle", 9, 1, `"n":10,"wait":true`) })
			wg.Go(func() { p.send(204, "handle", 9, 1, `"n":10,"wait":true`) })
			p.does("start a 10")
			if _, err := io.WriteString(p.stdin, "9 1\n"); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			p.send(204, "terminate", 9, 2, `"n":10`)
			p.does("stop a 10")

			// A resource for which nothing runs is forgotten an hour after the last request. One that runs never is.
			for n := range 20 {
				id := fmt.Sprint("gone-", n)
				p.sendFor(id, 204, "handle", 5, 1, `"n":1`)
				p.sendFor(id, 204, "terminate", 5, 2, `"n":1`)
				p.does("start "+id+" 1", "stop "+id+" 1")
			}
			p.sendFor("b", 204, "handle", 5, 1, `"n":1,"later":3000`)
			p.does("start b 1")
			p.send(409, "handle", 9, 1, `"n":11`) // late, by less than an hour
			p.sendFor("b", 204, "handle", 5, 2, `"n":2,"later":3000,"count":true`)
			p.does("stop b 1", "start b 2", "known 22")
			// This comes less than an hour after the last request for a.
			p.sendFor("b", 204, "handle", 5, 3, `"n":3,"later":300,"count":true`)
			p.does("stop b 2", "start b 3", "known 2")
			p.send(409, "handle", 9, 1, `"n":11`)
			p.sendFor("c", 204, "handle", 5, 1, `"n":1,"later":7200`)
			p.does("start c 1")
			p.sendFor("c", 204, "handle", 5, 2, `"n":2,"count":true`)
			p.does("stop c 1", "start c 2", "known 2")
			p.send(204, "handle", 9, 1, `"n":11`) // no longer known
			p.does("start a 11")
			p.sendFor("b", 409, "handle", 5, 2, `"n":2`)
		})
	}
}

func TestTheProgramInPythonRuns(t *testing.T) {
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	cmd := exec.CommandContext(t.Context(), path, "receiver.py", "0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(stdout)
	in.Scan()
	p := &program{
		t: t, url: "http://127.0.0.1:" + strings.TrimPrefix(in.Text(), "port "),
		http: &http.Client{Timeout: time.Minute},
	}
	p.send(204, "handle", 5, 1, `"n":1`)
	p.send(204, "terminate", 5, 2, `"n":1`)
	for _, want := range []string{"start a", "stop a"} {
		if in.Scan(); in.Text() != want {
			t.Errorf("it said %q, want %q", in.Text(), want)
		}
	}
	p.http.CloseIdleConnections()
	if err := cmd.Process.Kill(); err != nil { // the program would go on for ever
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait() // the error only says that it was killed
}
