package handler

import (
	"io"
	"strings"
	"testing"
)

// pending is a body whose Read blocks until it is closed.
type pending struct{ closed chan struct{} }

func (p pending) Read([]byte) (int, error) { <-p.closed; return 0, io.EOF }
func (p pending) Close() error             { close(p.closed); return nil }

func TestBodiesThatAreReadAtOnceAreBounded(t *testing.T) {
	var b bodies
	for n := range webhookConnections + 10 {
		from := pending{make(chan struct{})}
		one := b.read(from, func() {})
		if (one != nil) != (n < webhookConnections) {
			t.Fatalf("the body after %d others is being read: %v", n, one != nil)
		}
		if one == nil {
			<-from.closed
		}
	}
	b.close()
	one := b.read(io.NopCloser(strings.NewReader("text")), func() {})
	if one == nil {
		t.Fatal("there is no room afterwards")
	}
	<-one.done
	if said, all := one.text(); said != "text" || !all {
		t.Errorf("got %q, %v", said, all)
	}
}
