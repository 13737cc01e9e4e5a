package follow

import (
	"bytes"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A range with few keys, of which many parts are followed, needs no watch for each part: one watch of the whole range
// is dealt to the parts. An app has a thousand shards, and most apps do not have as many resources.

const (
	// mostGathered is how many keys such a range may have.
	mostGathered = 4096
	// mostForeign is how many events of parts that nobody follows here a watch of the whole may have brought. After
	// that, a watch for each part costs less.
	mostForeign = 4096
)

// errApart says that a range has become too large, or changes too much, to be watched as a whole.
var errApart = errors.New("each part needs a watch of its own")

// shares are the parts that a watch of a whole range feeds.
type shares struct {
	by      map[string][]*watch // by prefix: that of the range, some name, and a slash
	whole   *whole              // the range
	foreign int                 // events that no part wanted
}

// askPart asks for a watch, from now on, of a part of a range. The caller calls close.
func (w *watcher) askPart(p *part) (*watch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	within := p.of.whole.prefix
	whole := w.wholes[within]
	if whole == nil {
		whole = &watch{
			of: w, prefix: within, opened: make(chan struct{}),
			parts: &shares{by: map[string][]*watch{}, whole: p.of.whole},
		}
		if err := w.addLocked(whole); err != nil {
			return nil, err
		}
		if w.wholes == nil {
			w.wholes = map[string]*watch{}
		}
		w.wholes[within] = whole
	}
	x := &watch{of: w, prefix: p.reader.prefix, whole: whole, part: p, opened: whole.opened}
	whole.parts.by[x.prefix] = append(whole.parts.by[x.prefix], x)
	return x, nil
}

// leave takes a part away; the last one closes the watch. The caller holds the watcher's mu, also for what follows.
func (x *watch) leave(part *watch) {
	all := x.parts.by[part.prefix]
	for i, other := range all {
		if other == part {
			all = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	if x.parts.by[part.prefix] = all; len(all) == 0 {
		delete(x.parts.by, part.prefix)
	}
	if len(x.parts.by) == 0 && x.of.wholes[x.prefix] == x {
		delete(x.of.wholes, x.prefix)
		x.closeLocked()
	}
}

// endParts ends the parts of a watch with an error.
func (x *watch) endParts(err error) {
	if x.parts == nil || x.of.wholes[x.prefix] != x {
		return
	}
	delete(x.of.wholes, x.prefix)
	for _, parts := range x.parts.by {
		for _, part := range parts {
			part.passed = part.reachedLocked()
			part.err = err
			part.tell()
		}
	}
}

// deal hands the events of a watch to its parts: to each part all of its events at once, since those of one transaction
// belong together. If they are too many, each part is to get a watch of its own.
func (x *watch) deal(resp *pb.WatchResponse) {
	var order []string
	by := map[string][]*clientv3.Event{}
	for _, ev := range resp.Events {
		prefix := string(partOf(x.prefix, ev.Kv.Key))
		x.count(ev)
		if len(x.parts.by[prefix]) == 0 {
			x.parts.foreign++
			continue
		}
		if by[prefix] == nil {
			order = append(order, prefix)
		}
		by[prefix] = append(by[prefix], ev)
	}
	for _, prefix := range order {
		for _, part := range x.parts.by[prefix] {
			part.queue = append(part.queue, &pb.WatchResponse{Header: resp.Header, Events: by[prefix]})
			part.tell()
		}
	}
	if x.parts.whole.about.Load() > mostGathered || x.parts.foreign > mostForeign {
		x.endParts(errApart)
		x.closeLocked()
	}
}

// partOf returns the prefix of the part of a range that a key is in.
func partOf(within string, key []byte) []byte {
	if i := bytes.IndexByte(key[len(within):], '/'); i >= 0 {
		return key[:len(within)+i+1]
	}
	return key
}

// count takes note of how many keys there are after an event.
func (x *watch) count(ev *clientv3.Event) {
	switch {
	case ev.Type == clientv3.EventTypeDelete:
		x.parts.whole.about.Add(-1)
	case ev.Kv.CreateRevision == ev.Kv.ModRevision:
		x.parts.whole.about.Add(1)
	}
}
