package bench

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// requests counts what is sent to etcd, by kind: unary calls by the name of their method, messages on streams, and the
// streams themselves.
type requests struct {
	mu sync.Mutex
	by map[string]int
}

// kinds are the kinds that have figures of their own. All others are counted together.
var kinds = map[string]string{
	"Range": "ranges", "Txn": "txns", "Put": "puts", "LeaseGrant": "grants", "Authenticate": "authenticates",
	"keepalive": "keepalives", "watch": "watches", "stream": "streams",
}

// call counts a call by its method's full name.
func (r *requests) call(method string) { r.count(method[strings.LastIndexByte(method, '/')+1:]) }

func (r *requests) count(what string) {
	kind := kinds[what]
	if kind == "" {
		kind = "others"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[string]int{}
	}
	r.by[kind]++
}

func (r *requests) of(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[kind]
}

func (r *requests) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by = nil
}

// SendMsg counts a message on the stream.
func (s *watched) SendMsg(m any) error {
	switch m.(type) {
	case *pb.LeaseKeepAliveRequest:
		s.wire.requests.count("keepalive")
	case *pb.WatchRequest:
		s.wire.requests.count("watch")
	}
	return s.ClientStream.SendMsg(m)
}

// rates adds to figures how many requests a second all members have sent, by kind and in total.
func (l *lab) rates(figures map[string]float64, prefix string, took time.Duration) {
	all := append([]string{"others"}, values(kinds)...)
	total := 0
	for _, kind := range all {
		n := 0
		for _, w := range l.wires() {
			n += w.requests.of(kind)
		}
		if kind != "streams" { // a stream is no request: the messages on it are
			total += n
		}
		figures[prefix+kind+"_per_second"] = float64(n) / took.Seconds()
	}
	figures[prefix+"requests_per_second"] = float64(total) / took.Seconds()
}

func values(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// logIn makes members that start from now on use a password. etcd asks for it as soon as usersOn has been called. logIn
// does nothing and returns false where the etcd is not the bench's own.
func (l *lab) logIn() bool {
	if l.etcd.Stop == nil || l.etcd.Config.Username != "" {
		return false
	}
	l.etcd.Config.Username, l.etcd.Config.Password = "root", rand.Text()
	return true
}

// usersOn turns on authentication, with the default cost of a password check, and waits until each member has a token.
// The lab's own client has no access after that.
func (l *lab) usersOn(ctx context.Context) error {
	_, err := l.client.UserAdd(ctx, l.etcd.Config.Username, l.etcd.Config.Password)
	if err == nil {
		_, err = l.client.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = l.client.AuthEnable(ctx)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, m := range l.all() {
		for m.wire.requests.of("authenticates") == 0 {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
