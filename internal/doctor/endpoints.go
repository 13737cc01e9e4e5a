package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// target is one endpoint, and what was found out about it.
type target struct {
	endpoint string
	network  string // "tcp" or "unix"
	at       string // host:port, or the path of a socket
	host     string // empty for a socket
	proxied  bool   // connections go through an HTTP proxy

	found  []Check          // about it, in order
	broken *Definition      // the first check that has failed; nil: none
	client *clientv3.Client // of this endpoint only; nil if it cannot be made
	status *pb.StatusResponse
	denied error // why etcd did not tell its status
}

// note keeps a check about the target.
func (t *target) note(ctx context.Context, r *run, d Definition, do func(context.Context) finding) bool {
	c, f := r.outcome(ctx, d, t.endpoint, do)
	t.found = append(t.found, c)
	if f.result == Fail && t.broken == nil {
		t.broken = &d
	}
	return f.result != Fail
}

// checkEndpoints looks at all endpoints at once, up to whether etcd answers there. It yields what is about the network;
// the categories tls and etcd yield the rest.
func checkEndpoints(ctx context.Context, r *run) {
	syntaxes := r.check(ctx, syntax, "", func(context.Context) finding { return checkSyntax(r.cfg.Etcd) })
	if syntaxes.result == Fail {
		r.block("endpoints", because(syntax))
		return
	}
	for _, e := range r.cfg.Etcd.Endpoints {
		t := &target{endpoint: e}
		t.network, t.at = reach.Target(e)
		if t.network == "tcp" {
			t.host, _, _ = net.SplitHostPort(t.at) // the syntax was checked
			t.proxied = reach.Proxied(t.at)
		}
		r.targets = append(r.targets, t)
	}
	var probing sync.WaitGroup
	for _, t := range r.targets {
		probing.Go(func() { t.probe(ctx, r) })
	}
	probing.Wait()
	if r.anyGood() {
		r.soften()
	}
	r.addFound("endpoints")
}

// anyGood says whether an endpoint can be used.
func (r *run) anyGood() bool {
	for _, t := range r.targets {
		if t.broken == nil {
			return true
		}
	}
	return false
}

// soften makes failures of single endpoints warnings: requests go around them.
func (r *run) soften() {
	for _, t := range r.targets {
		for i := range t.found {
			if c := &t.found[i]; c.Result == Fail {
				c.Result = Warn
				c.Summary += " (requests go to the other endpoints)"
			}
		}
	}
}

// addFound yields what was found about the endpoints in a category, and blocks what needs the category if no endpoint
// came through it.
func (r *run) addFound(category string) {
	for _, t := range r.targets {
		for _, c := range t.found {
			if c.Category == category {
				r.add(c)
			}
		}
	}
	why := ""
	for _, t := range r.targets {
		if t.broken == nil || comesBefore(category, t.broken.Category) {
			return
		}
		why = because(*t.broken)
	}
	r.block(category, why)
}

// comesBefore says whether a category is checked before another one.
func comesBefore(a, b string) bool {
	all := Categories()
	return slices.Index(all, a) < slices.Index(all, b)
}

func checkSyntax(c etcd.Config) finding {
	if len(c.Endpoints) == 0 {
		return failure("give --endpoints: "+reach.Accepted, "no endpoint is given")
	}
	var bad *reach.EndpointError
	if err := reach.CheckEndpoints(c.Endpoints, c.TLS != nil || c.GetTLS != nil); errors.As(err, &bad) {
		return failure("in --endpoints, write "+bad.Want, "%q is no endpoint that can be connected to", bad.Endpoint)
	}
	return fine("%s", strings.Join(c.Endpoints, ", "))
}

// probe finds out about an endpoint, from the network up, and ends at what fails.
func (t *target) probe(ctx context.Context, r *run) {
	if t.proxied {
		t.note(ctx, r, httpProxy, func(context.Context) finding {
			return warning("if etcd can be reached without it, name its host in NO_PROXY",
				"connections go through the HTTP proxy that the environment names (HTTPS_PROXY)")
		})
	} else if !t.note(ctx, r, names, t.lookUp) || !t.note(ctx, r, connects, t.connect) {
		return
	}
	if !t.secure(ctx, r) {
		return
	}
	client, err := etcd.NewClient(t.config(r))
	if err != nil {
		t.note(ctx, r, answers, func(context.Context) finding {
			return failure("check how etcd is reached", "no client can be made: %v", err)
		})
		return
	}
	t.client = client
	t.call(ctx, r)
}

// config is how this endpoint alone is reached.
func (t *target) config(r *run) etcd.Config {
	c := r.cfg.Etcd
	others := reach.Secure(c.Endpoints, false) && !reach.Secure([]string{t.endpoint}, false)
	if others && c.TLS == nil && c.GetTLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // since another endpoint is an https URL
	}
	c.Endpoints = []string{t.endpoint}
	return c
}

func (t *target) lookUp(ctx context.Context) finding {
	switch {
	case t.network != "tcp":
		return fine("a socket needs no name")
	case net.ParseIP(t.host) != nil:
		return fine("an address needs no name server")
	}
	began := time.Now()
	addresses, err := net.DefaultResolver.LookupHost(ctx, t.host)
	if err != nil {
		return failure("is the name in --endpoints right, and does this machine's name server know it?",
			"%q: %s", t.host, reach.ExplainDial(err).Text)
	}
	return fine("%s is %s, found in %s", t.host, strings.Join(addresses, ", "), brief(time.Since(began)))
}

func (t *target) connect(ctx context.Context) finding {
	began := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, t.network, t.at)
	if err != nil {
		d := reach.ExplainDial(err)
		action := "is --endpoints right, and does a firewall let this machine through?"
		if d.Kind == reach.Refused {
			action = "does etcd run there, and is --endpoints right?"
		}
		return failure(action, "%s", d.Text)
	}
	_ = conn.Close() // nothing was written
	return fine("connected in %s", brief(time.Since(began)))
}

// call asks the endpoint for etcd's status, without a user: any answer shows that etcd is there. What hinders it may be
// TLS after all, since a server checks the client's certificate last.
func (t *target) call(ctx context.Context, r *run) {
	var kind reach.Kind
	c, f := r.outcome(ctx, answers, t.endpoint, func(ctx context.Context) finding {
		began := time.Now()
		conn := t.client.ActiveConnection()
		resp, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		t.status, t.denied = resp, err
		switch code := status.Code(err); {
		case err == nil:
			return fine("etcd %s answers in %s", resp.Version, brief(time.Since(began)))
		case code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.Unknown &&
			code != codes.Canceled && code != codes.Unimplemented:
			return fine("etcd answers in %s", brief(time.Since(began)))
		case code == codes.Unimplemented:
			return failure("is it etcd's port for clients (2379) that --endpoints names?",
				"it speaks gRPC, and is not etcd")
		}
		why := reach.Of(t.client).Reason()
		if why == nil || len(why.Details) == 0 {
			return failure("is it etcd's port for clients (2379) that --endpoints names?", "%v", err)
		}
		d := why.Details[0]
		kind = d.Kind
		if kind == reach.Connected && strings.Contains(err.Error(), "unexpected HTTP status code") {
			kind, d.Text = reach.NotEtcd, "it speaks HTTP, but not gRPC: it is not etcd"
		}
		return failure(actionOf(kind), "%s", d.Text)
	})
	if d, ok := hinderedBy(kind); ok {
		t.replace(d, f)
		return
	}
	t.found = append(t.found, c)
	if f.result == Fail {
		t.broken = &answers
	} else if reach.Secure(r.cfg.Etcd.Endpoints, r.cfg.Etcd.TLS != nil || r.cfg.Etcd.GetTLS != nil) {
		t.replace(clientCert, t.certificateTaken(r))
	}
}

// replace puts what was found about a check in the place of what was found before.
func (t *target) replace(d Definition, f finding) {
	c := Check{Definition: d, Subject: t.endpoint, Result: f.result, Summary: f.summary, Action: f.action}
	if f.result == Fail && t.broken == nil {
		t.broken = &d
	}
	for i := range t.found {
		if t.found[i].Definition == d {
			t.found[i] = c
			return
		}
	}
	t.found = append(t.found, c)
}

// hinderedBy names the check of the category tls that a reason is about.
func hinderedBy(k reach.Kind) (Definition, bool) {
	switch k {
	case reach.WantsTLS, reach.NotTLS:
		return transport, true
	case reach.Untrusted:
		return trust, true
	case reach.WrongName:
		return serverName, true
	case reach.Expired, reach.BadCert:
		return validity, true
	case reach.WantsCert, reach.RefusesCert:
		return clientCert, true
	default:
		return Definition{}, false
	}
}

// actionOf says what to do about a reason.
func actionOf(k reach.Kind) string {
	switch k {
	case reach.WantsTLS:
		return "etcd is served with TLS there: use https:// or --cacert"
	case reach.NotTLS:
		return "etcd is served without TLS there: leave out --cacert, --cert, --key and https://"
	case reach.Untrusted:
		return "name the authority that signed it with --cacert"
	case reach.WrongName:
		return "use a name or an address in --endpoints that the certificate has, or issue one for this name"
	case reach.Expired, reach.BadCert:
		return "give etcd another certificate, or set the clock right"
	case reach.WantsCert, reach.RefusesCert:
		return "give a client certificate that etcd's authority signed, with --cert and --key"
	case reach.Silent, reach.NotEtcd:
		return "is it etcd's port for clients (2379) that --endpoints names?"
	case reach.Connected, reach.Lost:
		return "is etcd overloaded, or does it just start? see its log"
	default:
		return "see etcd's log for what became of the connection"
	}
}

// checkAnswers yields whether etcd answers at the endpoints, and makes a client of those where it does.
func checkAnswers(_ context.Context, r *run) {
	r.addFound("etcd")
	if r.blocked["etcd"] != "" {
		return
	}
	c := r.cfg.Etcd
	c.Endpoints = nil
	for _, t := range r.targets {
		if t.broken == nil && (!t.status.GetIsLearner() || !r.votes()) {
			c.Endpoints = append(c.Endpoints, t.endpoint)
			c.TLS = t.config(r).TLS
		}
	}
	client, err := etcd.NewClient(c)
	if err != nil {
		r.block("etcd", fmt.Sprintf("no client can be made: %v", err))
		return
	}
	r.client = client
}

// brief shortens a duration for people.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
