package handler

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// socketNames makes names of sockets in a folder of its own, which is made for the first one.
type socketNames struct {
	mu   sync.Mutex
	dir  string
	last int
}

func (n *socketNames) next() (name string, drop func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dir == "" {
		if n.dir, err = os.MkdirTemp("", "drm"); err != nil {
			n.dir = ""
			return "", nil, err
		}
	}
	n.last++
	name = filepath.Join(n.dir, strconv.Itoa(n.last))
	return name, func() { _ = os.Remove(name) }, nil
}

func (n *socketNames) remove() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dir != "" {
		_ = os.RemoveAll(n.dir)
	}
}
