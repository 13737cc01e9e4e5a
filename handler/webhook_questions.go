package handler

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

const (
	// questionTimeout bounds a question which instance of the receiver answers. It is below the 5 s that DRM waits, so
	// that the error tells what has happened.
	questionTimeout = 4 * time.Second
	// terminateWaits bounds what a terminate waits for the answer. If none comes, the terminate is sent.
	terminateWaits = time.Second
)

// questions are the requests that ask which instance of the receiver answers. One is asked at a time, and its answer is
// everybody's who waits.
type questions struct {
	calls atomic.Int64  // the number of the last question
	turn  chan struct{} // has one value while a question is asked; the next two fields belong to who has put it there
	at    time.Time     // when the last question was over
	err   error         // what came of it

	// transport, if not nil, makes the transport of the questions. Otherwise it is made from that of the requests.
	transport func() http.RoundTripper

	mu     sync.Mutex
	client *http.Client // has a connection of its own, so that requests need not wait for one; nil before the first
	idle   func()       // closes that connection; nil if there is none of its own
}

func newQuestions() questions { return questions{turn: make(chan struct{}, 1)} }

// withOneConnection returns a copy of a transport that keeps one connection.
func withOneConnection(base *http.Transport) *http.Transport {
	one := base.Clone()
	one.MaxIdleConnsPerHost = 1
	return one
}

// asker returns the client for questions, which is made from the one for requests. It has connections of its own if the
// requests go over an http.Transport.
func (q *questions) asker(requests *http.Client) *http.Client {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.client != nil {
		return q.client
	}
	client := *requests
	transport := requests.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	switch base, ok := transport.(*http.Transport); {
	case q.transport != nil:
		client.Transport = q.transport()
		q.idle = client.CloseIdleConnections
	case ok:
		client.Transport = withOneConnection(base)
		q.idle = client.CloseIdleConnections
	}
	q.client = &client
	return q.client
}

// close closes the connection for questions.
func (q *questions) close() {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle != nil {
		idle()
	}
}

// Instance asks the receiver which instance of it answers, with an "instance" request, and returns what DRM has to know
// of that. It returns the empty string, and asks nothing, as long as no answer of the receiver had InstanceHeader.
func (w *Webhook) Instance(ctx context.Context) (string, error) {
	if w.instances.current() == 0 {
		return "", nil
	}
	if err := w.ask(ctx); err != nil {
		return "", fmt.Errorf("webhook: %s: POST %s: %w", actionInstance, w.shown, err)
	}
	return w.instances.told(), nil
}

// ask asks which instance answers, and returns when w.instances has the answer. Whoever waits while another one asks
// takes the outcome of that.
func (w *Webhook) ask(ctx context.Context) error {
	came, q := time.Now(), &w.questions
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if q.at.After(came) {
		return q.err
	}
	err := w.question(ctx)
	if err == nil || ctx.Err() == nil { // otherwise this one has not waited for the answer
		q.at, q.err = time.Now(), err
	}
	return err
}

// question asks once. The caller has the turn.
func (w *Webhook) question(ctx context.Context) error {
	app, member := w.instances.asks()
	body, err := encode(struct {
		Action string `json:"action"`
		App    string `json:"app"`
		Member string `json:"member"`
		Call   int64  `json:"call"`
	}{actionInstance, app, member, w.questions.calls.Add(1)})
	if err != nil {
		return err
	}
	limit := min(w.timeout, questionTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	header := w.header.Clone()
	if header["Idempotency-Key"] == nil { // empty, it is not sent, and makes http.Transport repeat the question
		header["Idempotency-Key"] = []string{}
	}
	var made attempt
	err = w.exchange(ctx, w.questions.asker(w.client), &made, http.MethodPost, header, body, true)
	w.instances.noteQuestion(&made, made.late || ctx.Err() != nil)
	if made.status != 0 && (made.instance != "" || !mayBeAProxys(made.status)) {
		return nil // whatever the status is
	}
	return err
}

// replaced reports whether a terminate need not be sent, because the instance that was given the resource is gone. It
// asks which instance answers if another one may have taken its place. given is the number of the instance that was the
// current one when the terminate was called for.
func (w *Webhook) replaced(ctx context.Context, given int32, c drm.Claim) bool {
	if w.instances.doubtful() {
		waiting, cancel := context.WithTimeout(ctx, min(terminateWaits, w.timeout/4))
		_ = w.ask(waiting) // without an answer, the terminate is sent
		cancel()
	}
	name, yes := w.instances.replaced(given, keyOf(c))
	if yes {
		c.ServedBy(name)
	}
	return yes
}
