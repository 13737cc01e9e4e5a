package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mostSeconds is how long a profile of the processor may be taken. NewServer gives an answer twice that time.
const mostSeconds = 30

// profiles are what a process can tell of itself at once, by the names of package pprof.
var profiles = []string{"allocs", "goroutine", "heap", "mutex", "threadcreate"}

// profile answers with a profile of this process, for `go tool pprof`; of the goroutines with their stacks as text.
func (h *Handler) profile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds, f := secondsOf(r, name)
		if f.Error != "" {
			refuse(w, http.StatusBadRequest, f)
			return
		}
		if name == "cpu" {
			h.profileCPU(w, r, seconds)
			return
		}
		detail, kind := 0, "application/octet-stream"
		if name == "goroutine" {
			detail, kind = 2, "text/plain; charset=utf-8"
		}
		beginAs(w, http.StatusOK, kind)
		_ = pprof.Lookup(name).WriteTo(w, detail) // the client is gone, or too slow
	}
}

// secondsOf returns the parameter of a profile of the processor. Other profiles have none.
func secondsOf(r *http.Request, name string) (time.Duration, failure) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	want := "no parameter"
	if name == "cpu" {
		want = "?seconds=N, with N from 1 to " + strconv.Itoa(mostSeconds) + ", or none"
	}
	if err != nil || len(query) > 1 || len(query) == 1 && (name != "cpu" || !query.Has("seconds")) {
		return 0, wrong("query", r.URL.RawQuery, want)
	}
	if !query.Has("seconds") {
		return 5 * time.Second, failure{}
	}
	n, err := strconv.Atoi(query.Get("seconds"))
	if err != nil || n < 1 || n > mostSeconds {
		return 0, wrong("seconds", query.Get("seconds"), want)
	}
	return time.Duration(n) * time.Second, failure{}
}

// profileCPU answers with what the processor has done for some time. A process can take one such profile at a time.
func (h *Handler) profileCPU(w http.ResponseWriter, r *http.Request, length time.Duration) {
	var taken bytes.Buffer // package pprof writes all of it at the end
	if err := pprof.StartCPUProfile(&taken); err != nil {
		refuse(w, http.StatusConflict, failure{Error: "another such profile is being taken: " + err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), length)
	defer cancel()
	<-ctx.Done()
	pprof.StopCPUProfile()
	beginAs(w, http.StatusOK, "application/octet-stream")
	_, _ = w.Write(taken.Bytes()) // an error says that the client is gone
}

// profileNamed returns the name of the profile that a path asks for.
func profileNamed(path string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, "/v1/profiles/")
	return name, ok && (name == "cpu" || slices.Contains(profiles, name))
}
