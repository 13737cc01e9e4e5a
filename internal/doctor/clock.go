package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	// pollEvery is how often etcd is asked while its second is measured.
	pollEvery = 20 * time.Millisecond
	// fastest is the deviation of this machine's clock from etcd's that is warned of, and tooFast the one that members
	// allow for.
	fastest, tooFast = 0.05, 0.10
	// unsure is the uncertainty beyond which a measurement says nothing.
	unsure = 0.1
)

// checkClock compares how fast this machine's clock and etcd's run: members count the life of their leases by their own
// clock, and etcd by its own.
func checkClock(ctx context.Context, r *run) {
	r.check(ctx, clockRate, "", func(ctx context.Context) finding {
		if r.cfg.App != "" && r.blocked["permissions"] == "" {
			layout := keys.New(r.cfg.Prefix, r.cfg.App)
			if f, ok := r.checkClockByTimers(ctx, layout); ok {
				return f
			}
			if len(r.app.leases) == 0 {
				r.findLeases(ctx, layout)
			}
		}
		for _, id := range r.app.leases {
			resp, err := r.client.TimeToLive(ctx, id)
			if err != nil || resp.GrantedTTL < shortestTTL {
				continue
			}
			low, high, err := measure(ctx, renewed, func(ctx context.Context) (int64, error) { return r.left(ctx, id) })
			if err == nil {
				return judgeClock(low, high, "by the lease of a member")
			}
		}
		return r.checkClockByDate(ctx)
	})
}

// checkClockByTimers looks for a lease that nobody renews, whose seconds can be counted one after the other, however
// short those of members are: that of an order which ends by itself, of a return that is awaited, or of a member that
// has started lately. ok is false if there is none.
func (r *run) checkClockByTimers(ctx context.Context, l keys.Layout) (f finding, ok bool) {
	for _, prefix := range []string{l.Reservations(), l.Drains(), l.Cordons(), l.Orders(), l.AllLives()} {
		resp, err := r.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(mostLeases))
		if err != nil {
			return finding{}, false
		}
		for _, kv := range resp.Kvs {
			id := clientv3.LeaseID(kv.Lease)
			if id == 0 {
				continue
			}
			if left, err := r.left(ctx, id); err != nil || left < longest+1 {
				continue
			}
			low, high, err := measure(ctx, steady, func(ctx context.Context) (int64, error) { return r.left(ctx, id) })
			if err == nil {
				return judgeClock(low, high, "by a lease that nobody renews"), true
			}
		}
	}
	return finding{}, false
}

// judgeClock judges how long a second of etcd takes by this machine's clock, between two bounds. how tells what was
// looked at.
func judgeClock(low, high time.Duration, how string) finding {
	const mend = "see what keeps the time on this machine and on etcd's (chronyc tracking): " +
		"a virtual machine may have a clock source that drifts"
	const told = "while etcd counts 100 s, this machine counts %.0f s (%s); members allow for 10 %%"
	slow, fast := low.Seconds()-1, high.Seconds()-1
	middle := 100 * ((slow+fast)/2 + 1)
	switch {
	case slow > tooFast || fast < -tooFast:
		return failure(mend, told, middle, how)
	case slow > fastest || fast < -fastest:
		return warning(mend, told, middle, how)
	case fast-slow > 2*unsure:
		return skipped("etcd's answers take too long to tell: its second takes from %s to %s here", brief(low),
			brief(high))
	}
	return fine("a second of etcd takes from %s to %s here (%s)", brief(low), brief(high), how)
}

// shortestTTL is the shortest lease in seconds with which etcd's second can be measured: its member renews it every
// fifth of that, and the whole seconds that are left must fall in between.
const shortestTTL = 6

// left is how many whole seconds are left to a lease.
func (r *run) left(ctx context.Context, id clientv3.LeaseID) (int64, error) {
	resp, err := r.client.TimeToLive(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case resp.TTL < 0:
		return 0, errors.New("the member has ended meanwhile")
	}
	return resp.TTL, nil
}

// checkClockByDate is for where there is no lease whose seconds can be seen: etcd serves HTTP, too, and each answer has
// the date by the clock of that member. The leader counts the life of leases.
func (r *run) checkClockByDate(ctx context.Context) finding {
	var at *target
	for _, t := range r.targets {
		leads := t.status != nil && t.status.Leader == t.status.Header.GetMemberId()
		if t.broken == nil && t.network == "tcp" && (at == nil || leads) {
			at = t
		}
	}
	config, err := r.tlsConfig()
	switch {
	case at == nil:
		return skipped("needs an endpoint that is no socket, or a member whose lease lives %d s or more", shortestTTL)
	case err != nil:
		return skipped("%v", err)
	}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	url := "http://" + at.at + "/version"
	if config != nil {
		url = "https://" + at.at + "/version"
	}
	var f finding
	for range 2 { // a clock that was set meanwhile looks like one that runs at another rate, but hardly twice
		low, high, err := measure(ctx, steady, func(ctx context.Context) (int64, error) {
			at, err := dateOf(ctx, transport, url)
			return -at, err
		})
		if err != nil {
			return skipped("there is no member whose lease lives %d s or more, and %s does not tell its time: %v",
				shortestTTL, at.endpoint, err)
		}
		if f = judgeClock(low, high, "by the clock of "+at.endpoint); f.result == OK || f.result == Skip {
			break
		}
	}
	return f
}

// dateOf asks a server of HTTP for its time, in seconds.
func dateOf(ctx context.Context, transport http.RoundTripper, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // a connection is used again when all was read
	if failed := errors.Join(err, resp.Body.Close()); failed != nil {
		return 0, failed
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("its answer to %s has no date", url)
	}
	return date.Unix(), nil
}

// counting is how the number that is measured by changes.
type counting bool

const (
	// renewed numbers may rise between two falls, also unseen. A rise that does not show makes the second seem to be
	// long, so the shortest second is the right one.
	renewed counting = false
	// steady numbers fall once a second. Several seconds in a row tell more than one: when the last one ended is as
	// unsure as of a single one.
	steady counting = true
)

// longest is how many seconds are measured at most.
const longest = 4

// measure measures a second of etcd. ask returns a number that falls by 1 when a second of etcd has passed. measure
// goes on until it is clear how the second is, or for longest seconds. The second takes from low to high.
func measure(
	ctx context.Context, how counting, ask func(context.Context) (int64, error),
) (low, high time.Duration, err error) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	watch := secondWatch{how: how}
	for n := 0; n < longest; {
		asked := time.Now()
		left, err := ask(ctx)
		if err != nil && ctx.Err() == nil {
			return 0, 0, err
		}
		if err == nil {
			l, h, ok := watch.see(asked, time.Now(), left)
			if ok {
				n++
			}
			if ok && (high == 0 || bool(how) || h < high) {
				low, high = l, h
			}
			if ok && isClear(how, low, high) {
				break
			}
		}
		select {
		case <-poll.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	if high == 0 {
		return 0, 0, errors.New("no whole second was seen to pass")
	}
	return low, high, nil
}

// isClear says whether to measure further would tell nothing more.
func isClear(how counting, low, high time.Duration) bool {
	if how == renewed {
		return low.Seconds() < 1+fastest
	}
	return low.Seconds() > 1-fastest && high.Seconds() < 1+fastest
}

// secondWatch finds seconds in the answers. A second lies between two changes of the number, if the second of them is a
// fall by 1. Of a steady number, it finds the average of the seconds since the first change.
type secondWatch struct {
	how    counting
	asked  time.Time // when the last answer was asked for; zero: there is none
	left   int64     // what it said
	change *change   // where the second began; nil: no change was seen
	falls  int       // since then
}

// change is when the number changed: after the question whose answer was the last with the old number, and before the
// answer that was the first with the new one.
type change struct{ after, before time.Time }

// see takes an answer. ok says that it has ended a second, which took from low to high.
func (w *secondWatch) see(asked, answered time.Time, left int64) (low, high time.Duration, ok bool) {
	was := *w
	w.asked, w.left = asked, left
	if was.asked.IsZero() || left == was.left {
		return 0, 0, false
	}
	ok = was.change != nil && left == was.left-1
	if ok {
		w.falls++
		low = was.asked.Sub(was.change.before) / time.Duration(w.falls)
		high = answered.Sub(was.change.after) / time.Duration(w.falls)
	}
	if !ok || w.how == renewed {
		w.change, w.falls = &change{was.asked, answered}, 0
	}
	return low, high, ok
}
