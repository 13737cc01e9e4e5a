// Package handler has ready-made implementations of drm.Handler, and middleware for any of them.
//
//   - New makes a handler from plain functions.
//   - Loop runs one function per resource until the resource is taken away, and restarts it when it returns.
//   - Webhook sends one HTTP request per call to a service that handles the resources (docs/webhook.md is the
//     contract).
//   - Exec runs one process per resource. A guard process kills it when the claim ends or the agent dies (docs/exec.md
//     is the contract).
//   - Printer writes one line per call, to show what DRM would do.
//   - ReadyURL and ReadyExec are no handlers: they ask a service, or a program, whether the member can work, and are
//     for drm.Config.Ready.
//
// Middleware (Timeout, Retry, Recover, Log) wraps a handler in another one; Chain applies several. A wrapped handler
// has an Update exactly if the original has one, because DRM treats changed data differently for handlers with Update
// and without.
//
// All handlers here may be given to several managers of one process at once, and are safe for use from any goroutine.
package handler
