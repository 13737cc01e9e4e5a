package handler

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

const (
	excerptBytes = 200       // how much of a refusal's body an error shows
	refusalBytes = 16 << 10  // how much of it is searched for secrets, so that none is cut in two
	drainBytes   = 256 << 10 // how much of a body is read so that its connection can be used again

	// refusalWait is how long a call waits for the body of a failure. What has come by then is shown.
	refusalWait = time.Second
	// successWait is how long a call that succeeded waits for its connection to become free, so that the next call
	// finds it.
	successWait = 10 * time.Millisecond
	// drainWait is how long a body is read after that.
	drainWait = time.Second
)

// bodies reads what follows the status of the answers, in goroutines of its own: a body may have no end, and a call
// that was answered does not wait for it.
type bodies struct {
	mu      sync.Mutex
	reading map[*body]struct{} // at most webhookConnections
}

// body is the body of one answer.
type body struct {
	from io.ReadCloser
	late *time.Timer // lets go of the answer when it fires
	done chan struct{}

	mu   sync.Mutex
	said []byte // the first refusalBytes of it
	all  bool   // that is all
}

// read begins to read a body. It returns nil, and lets go of the answer, where too many are being read already.
func (b *bodies) read(from io.ReadCloser, give func()) *body {
	letGo := sync.OnceFunc(func() {
		give() // ends a Read
		_ = protect(from.Close)
	})
	one := &body{from: from, late: time.AfterFunc(refusalWait+drainWait, letGo), done: make(chan struct{})}
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
		letGo()
		return nil
	}
	go func() {
		// The body may be that of the caller's own client: whatever it does, the rest of this goes on.
		defer func() {
			b.mu.Lock()
			delete(b.reading, one)
			b.mu.Unlock()
			close(one.done)
		}()
		defer letGo()
		defer one.late.Stop()
		_ = protect(one.copy)
	}()
	return one
}

// copy reads up to drainBytes, and keeps the beginning.
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

// wait waits for the end of the body, at most so long and until stop is closed.
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

// text is what has been read of the body by now, and whether that is all of it.
func (one *body) text() (said string, all bool) {
	if one == nil {
		return "", false
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return string(one.said), one.all
}

// close gives up all bodies that are being read, and waits for that, but not for a caller's own client that does not
// let go.
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

// excerpt is the beginning of what a receiver said, on one line, without the secrets that it may have echoed.
func (w *Webhook) excerpt(said string, all bool) string {
	said = w.secrets.Hide(strings.ToValidUTF8(said, "\uFFFD"))
	if !all { // it may end with a part of a secret
		said, _ = w.secrets.CutEnd(said)
	}
	text := strings.Join(strings.Fields(said), " ")
	return excerpt.Clip(text, excerptBytes)
}
