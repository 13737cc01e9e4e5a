package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// The names of a handler's methods in a Webhook's body and, without the last two, in a Printer's line.
const (
	actionHandle          = "handle"
	actionUpdate          = "update"
	actionTerminate       = "terminate"
	actionHandleFailed    = "handle_failed"
	actionTerminateFailed = "terminate_failed"
	actionCheck           = "check"
	actionInstance        = "instance"
)

// call has the fields that a Webhook's body and a Printer's line have in common, in the order of the contract.
type call struct {
	Action   string          `json:"action"`
	App      string          `json:"app"`
	Member   string          `json:"member"`
	Token    int64           `json:"token"`
	Resource json.RawMessage `json:"resource"`
	Error    string          `json:"error"`
}

func newCall(action string, c drm.Claim, err error) call {
	made := call{Action: action, App: c.App, Member: c.Member, Token: c.Token, Resource: c.Resource.Object()}
	if err != nil {
		made.Error = err.Error()
	}
	return made
}

// encode returns v as one line of JSON. The resource keeps its bytes except for white space: <, > and & are not
// escaped.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

// Printer is a drm.Handler and drm.Updater that writes one line of JSON for each call and does nothing else: it shows
// what DRM would do. A line is
//
//	{"time":"…","action":"…","app":"…","member":"…","token":1,"resource":{…},"error":"…"}
//
// time is in RFC 3339 and UTC. action is handle, update, terminate, handle_failed or terminate_failed. resource is the
// whole object. error is empty unless action is one of the last two. Lines are written one after the other, each with
// one Write, so a slow writer delays every call. A call whose line cannot be written fails.
type Printer struct {
	mu sync.Mutex
	w  io.Writer
}

var _ interface {
	drm.Handler
	drm.Updater
} = (*Printer)(nil)

// NewPrinter makes a Printer that writes to w, or to the standard output if w is nil.
func NewPrinter(w io.Writer) *Printer {
	if w == nil {
		w = os.Stdout
	}
	return &Printer{w: w}
}

// Handle prints a line.
func (p *Printer) Handle(_ context.Context, c drm.Claim) error { return p.print(actionHandle, c, nil) }

// Update prints a line.
func (p *Printer) Update(_ context.Context, c drm.Claim) error { return p.print(actionUpdate, c, nil) }

// Terminate prints a line.
func (p *Printer) Terminate(_ context.Context, c drm.Claim) error {
	return p.print(actionTerminate, c, nil)
}

// HandleFailed prints a line, and ignores an error of the writer.
func (p *Printer) HandleFailed(_ context.Context, c drm.Claim, err error) {
	_ = p.print(actionHandleFailed, c, err)
}

// TerminateFailed prints a line, and ignores an error of the writer.
func (p *Printer) TerminateFailed(_ context.Context, c drm.Claim, err error) {
	_ = p.print(actionTerminateFailed, c, err)
}

func (p *Printer) print(action string, c drm.Claim, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	line, err := encode(struct {
		Time time.Time `json:"time"`
		call
	}{time.Now().UTC(), newCall(action, c, cause)})
	if err == nil {
		_, err = p.w.Write(line)
	}
	if err != nil {
		return failure("print "+action+" of", c, err)
	}
	return nil
}
