package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// source is an HTTP source of resources whose answer can be changed. The zero value has no resources.
type source struct {
	mu   sync.Mutex
	list []map[string]any
}

// fill makes the source have the resources with these ids, and no others.
func (s *source) fill(ids []string) {
	list := make([]map[string]any, 0, len(ids))
	for _, id := range ids {
		list = append(list, map[string]any{"id": id, "url": "wss://example.org/" + id})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

// ServeHTTP answers with all resources.
func (s *source) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	list := s.list
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	// The client notices an answer that is cut off; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{"data": list})
}

// numbered makes n ids that begin with prefix.
func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%0*d", prefix, len(fmt.Sprint(n)), i+1)
	}
	return ids
}
