package journal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Action says what happened.
type Action string

// The actions. Those with a resource come from the handler; the others are about a whole member, and come from whoever
// runs it.
const (
	Handle    Action = "handle"    // the member began to handle the resource
	Update    Action = "update"    // the member was given changed data of the resource
	Terminate Action = "terminate" // the member stopped handling the resource

	Started Action = "started" // the member's process was started
	// Gone says that the member's process is certainly dead, or certainly fenced: it no longer handles anything.
	Gone Action = "gone"
)

// Event is one line of a journal.
type Event struct {
	Time     time.Time `json:"time"` // when it was recorded
	Member   string    `json:"member"`
	Action   Action    `json:"action"`
	Resource string    `json:"resource,omitempty"` // empty for Started and Gone
	Token    int64     `json:"token,omitempty"`    // the claim's fencing token; 0 for Started and Gone
}

// Journal is a list of events that grows. Its zero value is ready to use; it is safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	events []Event
	grown  chan struct{} // closed at the next Record; nil while nobody waits
}

// Record appends an event. If its Time is zero, it gets the current time.
func (j *Journal) Record(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.events = append(j.events, e)
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
}

// Events returns all events so far.
func (j *Journal) Events() []Event { return slices.Clone(j.since(0)) }

// since returns the events from the n-th on, for reading only, since recorded events never change.
func (j *Journal) since(n int) []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.events[n:])
}

// Len is the number of events so far.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.events)
}

// Grown returns a channel that is closed at the next Record. Take it before Events to miss nothing in between.
func (j *Journal) Grown() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.grown == nil {
		j.grown = make(chan struct{})
	}
	return j.grown
}

// Write writes the events as JSON, one on each line.
func Write(w io.Writer, events []Event) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	return b.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]Event, error) {
	var events []Event
	dec := json.NewDecoder(r)
	for {
		var e Event
		switch err := dec.Decode(&e); err {
		case nil:
			events = append(events, e)
		case io.EOF:
			return events, nil
		default:
			return events, fmt.Errorf("read journal: event %d: %w", len(events)+1, err)
		}
	}
}
