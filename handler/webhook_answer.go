package handler

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

const (
	excerptBytes = 200       // how much of the body of a failure an error shows
	refusalBytes = 16 << 10  // how much of that body is kept and searched for secrets, so that no secret is cut in two
	drainBytes   = 256 << 10 // how much of a body is read at most, so that its connection can be used again

	// refusalWait is how long a call waits for the body of a failure. The error shows what has come by then.
	refusalWait = time.Second
	// successWait is how long a call that succeeded waits until its connection is free, so that the next call can use
	// that connection.
	successWait = 10 * time.Millisecond
	// drainWait is for how long a body is read after refusalWait.
	drainWait = time.Second
)

// bodies reads the bodies of the answers in goroutines of its own: a body may have no end, and an answered call must
// not wait for it.
type bodies struct {
	mu      sync.Mutex
	reading map[*body]struct{} // at most webhookConnections
}

// body is the body of one answer.
type body struct {
	from io.ReadCloser
	late *time.Timer // ends the request when it fires
	done chan struct{}

	mu   sync.Mutex
	said []byte // the beginning of the body, at most refusalBytes
	all  bool   // said is the whole body
}

// read begins to read a body. At the end it calls letGo, which ends the request. If too many bodies are being read
// already, it ends the request at once and returns nil.
func (b *bodies) read(from io.ReadCloser, letGo func()) *body {
	end := sync.OnceFunc(func() {
		letGo() // a Read in progress returns
		_ = protect(from.Close)
	})
	one := &body{from: from, late: time.AfterFunc(refusalWait+drainWait, end), done: make(chan struct{})}
	b.mu.Lock()
	if b.reading == nil {
		b.reading = make(map[*body]struct{})
	}
	full := len(b.reading) >= webhookConnections
	if !full {
		b.reading[one] = struct{}{}
	}
	b.mu.Unlock()
	if full {
		one.late.Stop()
		end()
		return nil
	}
	go func() {
		// The body may come from the caller's own client. Whatever its Read does, all of this must happen.
		defer func() {
			b.mu.Lock()
			delete(b.reading, one)
			b.mu.Unlock()
			close(one.done)
		}()
		defer end()
		defer one.late.Stop()
		_ = protect(one.copy)
	}()
	return one
}

// copy reads up to drainBytes, and keeps the beginning in said.
func (one *body) copy() error {
	part := make([]byte, 4<<10)
	for read := 0; read < drainBytes; {
		n, err := one.from.Read(part)
		read += n
		one.mu.Lock()
		one.said = append(one.said, part[:min(n, refusalBytes-len(one.said))]...)
		one.all = err == io.EOF && read == len(one.said)
		one.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the body has been read, but no longer than most, and only until stop is closed. A nil body needs no
// waiting.
func (one *body) wait(most time.Duration, stop <-chan struct{}) {
	if one == nil {
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-one.done:
	case <-stop:
	case <-timer.C:
	}
}

// text returns the beginning of the body as far as it has been read by now, and whether that is all of the body.
func (one *body) text() (said string, all bool) {
	if one == nil {
		return "", false
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return string(one.said), one.all
}

// close ends the requests whose bodies are being read, and waits until the reading has ended. It waits no longer than
// drainWait, because the caller's own client may not let go.
func (b *bodies) close() {
	b.mu.Lock()
	all := make([]*body, 0, len(b.reading))
	for one := range b.reading {
		all = append(all, one)
	}
	b.mu.Unlock()
	for _, one := range all {
		one.late.Reset(0)
	}
	late := time.NewTimer(drainWait)
	defer late.Stop()
	for _, one := range all {
		select {
		case <-one.done:
		case <-late.C:
			return
		}
	}
}

// excerpt returns the beginning of a receiver's answer on one line, without secrets of the request that the receiver
// may have repeated.
func (w *Webhook) excerpt(said string, all bool) string {
	said = w.secrets.Hide(strings.ToValidUTF8(said, "\uFFFD"))
	if !all { // the text may end with a part of a secret
		said, _ = w.secrets.CutEnd(said)
	}
	text := strings.Join(strings.Fields(said), " ")
	return excerpt.Clip(text, excerptBytes)
}
