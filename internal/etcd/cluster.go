package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// Cluster is how an etcd cluster is, as far as a client can tell.
type Cluster struct {
	Members []Server // by name; empty if the list of members could not be read
	// Silent are the endpoints that the client was given and that do not answer, in order.
	Silent []Silence
	Leader string // the name of the leader, by those who answer; "" if they know none
	// Leaderless says that some have answered, and that none of them knows a leader.
	Leaderless bool
	Alarms     []string // such as "NOSPACE at etcd-1"; in order
	// Read is the shortest of a few linearizable reads of one key; 0 if none was answered.
	Read time.Duration
	// Unknown says what could not be found out, and why.
	Unknown []string
}

// Silence is an endpoint that does not answer, and why.
type Silence struct{ Endpoint, Why string }

// Server is one member of the cluster.
type Server struct {
	Name    string // its id in hexadecimal if it has no name yet
	URLs    []string
	Learner bool
	// Answers says that it has answered here, and Elsewhere that it cannot be told whether it works: no member answers
	// where the cluster says that its members are, so that these addresses are not for this network.
	Answers, Elsewhere bool
	Why                string // why it does not answer, or says nothing of itself
	Leaderless         bool   // it has answered, and knows no leader
	Version            string
	// Size is how large its database is, Used how much of that is in use, and Quota how large it may become, in bytes.
	// Quota is 0 where etcd does not tell it, as versions before 3.6.
	Size, Used, Quota int64

	id uint64
}

const (
	// lookTimeout bounds each request of Look, and so does a third of the time that the caller has: some come one after
	// the other.
	lookTimeout = 2 * time.Second
	// looksAtOnce is how many members are asked at once.
	looksAtOnce = 16
	// reads is how many reads are timed.
	reads = 3
)

// answer is what one address has answered.
type answer struct {
	status *clientv3.StatusResponse
	err    error
}

// look collects what a cluster answers.
type look struct {
	client  *clientv3.Client
	timeout time.Duration // of each request
	mu      sync.Mutex
	at      map[string]answer // by address
}

// Look finds out how the cluster is. It reads the given key, and needs no permission beside that. What it cannot find
// out, Unknown says; it fails nothing, and takes some seconds at most. It returns when it has timed the reads, so that
// nothing else delays these; the caller must call wait, which returns what it has found.
func Look(ctx context.Context, client *clientv3.Client, key string) (wait func() Cluster) {
	l := &look{client: client, at: map[string]answer{}, timeout: lookTimeout}
	if by, limited := ctx.Deadline(); limited {
		l.timeout = min(l.timeout, time.Until(by)/3)
	}
	read := l.time(ctx, key)
	found := make(chan Cluster, 1)
	go func() { found <- l.cluster(ctx, read) }()
	return func() Cluster { return <-found }
}

// cluster finds out everything but how long a read takes.
func (l *look) cluster(ctx context.Context, read time.Duration) Cluster {
	c := Cluster{Read: read}
	client := l.client
	var listed *clientv3.MemberListResponse
	var noList, noAlarms error
	var alarms *clientv3.AlarmResponse
	var all errgroup.Group
	all.Go(func() error {
		asking, cancel := context.WithTimeout(ctx, l.timeout)
		defer cancel()
		listed, noList = client.MemberList(asking)
		return nil
	})
	all.Go(func() error {
		asking, cancel := context.WithTimeout(ctx, l.timeout)
		defer cancel()
		alarms, noAlarms = client.AlarmList(asking)
		return nil
	})
	all.Go(func() error { l.ask(ctx, client.Endpoints()); return nil })
	_ = all.Wait() // no function returns an error

	if noList != nil {
		c.Unknown = append(c.Unknown, "the members of etcd: "+text(noList))
	} else {
		c.Members = l.members(ctx, listed)
	}
	for _, endpoint := range client.Endpoints() {
		if a := l.at[endpoint]; a.err != nil && !refuses(a.err) {
			c.Silent = append(c.Silent, Silence{endpoint, text(a.err)})
		}
	}
	c.takeLeader(l)
	if noAlarms != nil {
		c.Unknown = append(c.Unknown, "etcd's alarms: "+text(noAlarms))
	} else {
		for _, a := range alarms.Alarms {
			c.Alarms = append(c.Alarms, fmt.Sprintf("%s at %s", a.Alarm, c.name(a.MemberID)))
		}
		slices.Sort(c.Alarms)
	}
	return c
}

// time returns the shortest time that a linearizable read takes.
func (l *look) time(ctx context.Context, key string) (least time.Duration) {
	asking, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	for range reads {
		began := time.Now()
		if _, err := l.client.Get(asking, key, clientv3.WithKeysOnly()); err != nil {
			break
		}
		if took := time.Since(began); least == 0 || took < least {
			least = took
		}
	}
	return least
}

// ask asks each address for its status that has not been asked yet.
func (l *look) ask(ctx context.Context, addresses []string) {
	asking, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(looksAtOnce)
	for _, address := range addresses {
		if _, asked := l.at[address]; asked {
			continue
		}
		all.Go(func() error {
			status, err := l.client.Status(asking, address)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.at[address] = answer{status, err}
			return nil
		})
	}
	_ = all.Wait() // no function returns an error
}

// of returns what a member has answered, nil if it has answered nothing.
func (l *look) of(id uint64) *clientv3.StatusResponse {
	for _, a := range l.at {
		if a.status != nil && a.status.Header.GetMemberId() == id {
			return a.status
		}
	}
	return nil
}

// members returns how the members are. It asks those that no endpoint has led to at the addresses that the cluster
// knows.
func (l *look) members(ctx context.Context, listed *clientv3.MemberListResponse) (all []Server) {
	var rest []string
	for _, m := range listed.Members {
		if l.of(m.ID) == nil {
			rest = append(rest, m.ClientURLs...)
		}
	}
	l.ask(ctx, rest)
	here := false // the addresses that the cluster knows are for this network
	for _, m := range listed.Members {
		for _, address := range m.ClientURLs {
			here = here || l.answers(address)
		}
	}
	for _, m := range listed.Members {
		s := Server{Name: m.Name, URLs: m.ClientURLs, Learner: m.IsLearner, id: m.ID}
		if s.Name == "" {
			s.Name = fmt.Sprintf("%x", m.ID)
		}
		if status := l.of(m.ID); status != nil {
			s.Answers, s.Leaderless = true, status.Leader == 0
			s.Version, s.Size, s.Used, s.Quota = status.Version, status.DbSize, status.DbSizeInUse, status.DbSizeQuota
		} else if slices.ContainsFunc(m.ClientURLs, l.answers) {
			s.Answers, s.Why = true, l.why(m.ClientURLs) // it refuses to say more
		} else if s.Elsewhere = !here; here {
			s.Why = l.why(m.ClientURLs)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Server) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.id, b.id)) })
	return all
}

// answers says whether something answers at an address that the cluster knows, under that or any other spelling.
func (l *look) answers(address string) bool {
	for asked, a := range l.at {
		if host(asked) == host(address) && (a.status != nil || refuses(a.err)) {
			return true
		}
	}
	return false
}

// why says why none of some addresses answers.
func (l *look) why(addresses []string) string {
	if len(addresses) == 0 {
		return "it has not said where it is"
	}
	a := l.at[addresses[0]]
	return fmt.Sprintf("%s: %s", host(addresses[0]), text(a.err))
}

// host is an endpoint without its scheme.
func host(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return endpoint
}

// takeLeader finds the leader that those who answer know of. That of the newest term counts.
func (c *Cluster) takeLeader(l *look) {
	term, answers := uint64(0), false
	for _, a := range l.at {
		answers = answers || a.status != nil
		if a.status != nil && a.status.Leader != 0 && a.status.RaftTerm >= term {
			term, c.Leader = a.status.RaftTerm, c.name(a.status.Leader)
		}
	}
	c.Leaderless = answers && term == 0
}

func (c *Cluster) name(id uint64) string {
	for _, m := range c.Members {
		if m.id == id {
			return m.Name
		}
	}
	return fmt.Sprintf("%x", id)
}

// refuses says whether an error is etcd's own answer.
func refuses(err error) bool {
	var told rpctypes.EtcdError
	return errors.As(rpctypes.Error(err), &told)
}

// text says for people why etcd has not answered.
func text(err error) string {
	switch {
	case err == nil:
		return "no answer"
	case errors.Is(err, rpctypes.ErrNoLeader):
		return "it has no leader"
	case errors.Is(err, context.DeadlineExceeded), IsUnreachable(err):
		return "no answer in time"
	default:
		return strings.TrimSpace(err.Error())
	}
}
