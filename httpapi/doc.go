// Package httpapi answers HTTP requests about one member: what it handles, and whether it is alive and ready. It takes
// the reports of a service that does the work of the member's handler. docs/agent.md describes the requests and the
// answers; `drmctl agent --listen` serves them.
//
//	health := new(drm.Health)
//	handler, err := httpapi.New(httpapi.Config{Health: health})
//	…
//	server := httpapi.NewServer(handler)
//	go server.Serve(listener) // before drm.Start, so that probes are answered during the start
//	m, err := drm.Start(ctx, drm.Config{Health: health, …})
//
// The requests are not authenticated: whoever can connect can make the member begin everything anew. So listen at a
// loopback address or a unix socket, or put a handler before this one that lets in only those who may.
package httpapi
