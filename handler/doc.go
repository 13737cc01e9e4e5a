// Package handler has ready-made implementations of drm.Handler, and middleware for any of them.
//
//   - New makes a handler of plain functions.
//   - Loop runs one function per resource until the resource is taken away, and restarts it when it returns.
//   - Webhook tells an HTTP service what to handle (docs/webhook.md is the contract).
//   - Exec runs one process per resource, under a guard process that outlives neither the claim nor the agent
//     (docs/exec.md is the contract).
//   - Printer writes one line per call, to see what DRM would do.
//
// Middleware (Timeout, Retry, Recover, Log) wraps a handler in another one; Chain applies several. What they return has
// an Update exactly where the wrapped handler has one, because DRM treats changed data differently with and without.
//
// All handlers here may be given to several managers of one process at once, and are safe for use from any goroutine.
package handler
