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

// What a Webhook's body and a Printer's line call the five methods of a handler.
const (
	actionHandle          = "handle"
	actionUpdate          = "update"
	actionTerminate       = "terminate"
	actionHandleFailed    = "handle_failed"
	actionTerminateFailed = "terminate_failed"
)

// call is what a Webhook's body and a Printer's line have in common, in the order of the contract.
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

// encode writes v as one line of JSON. The resource keeps its bytes, but for white space: no <, > or & is escaped.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

// Printer is a drm.Handler (and drm.Updater) that writes one line of JSON for each call, and so handles nothing: it
// shows what DRM would do. A line is
//
//	{"time":"…","action":"…","app":"…","member":"…","token":1,"resource":{…},"error":"…"}
//
// with the time in RFC 3339, UTC; action one of handle, update, terminate, handle_failed, terminate_failed; resource
// the whole object; error empty unless the action is one of the last two. Lines are written one at a time, each with
// one Write: a slow writer delays every call. A call whose line cannot be written fails.
type Printer struct {
	mu sync.Mutex
	w  io.Writer
}

var _ interface {
	drm.Handler
	drm.Updater
} = (*Printer)(nil)

// NewPrinter makes a Printer that writes to w; nil stands for the standard output.
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

// HandleFailed prints a line, if it can.
func (p *Printer) HandleFailed(_ context.Context, c drm.Claim, err error) {
	_ = p.print(actionHandleFailed, c, err)
}

// TerminateFailed prints a line, if it can.
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
