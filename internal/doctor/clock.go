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
		if r.cfg.App != "" && len(r.app.leases) == 0 && r.blocked["permissions"] == "" {
			r.findLeases(ctx, keys.New(r.cfg.Prefix, r.cfg.App))
		}
		for _, id := range r.app.leases {
			resp, err := r.client.TimeToLive(ctx, id)
			if err != nil || resp.GrantedTTL < shortestTTL {
				continue
			}
			low, high, err := measure(ctx, func(ctx context.Context) (int64, error) { return r.left(ctx, id) })
			if err == nil {
				return judgeClock(low, high, "by the lease of a member")
			}
		}
		return r.checkClockByDate(ctx)
	})
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
	low, high, err := measure(ctx, func(ctx context.Context) (int64, error) {
		at, err := dateOf(ctx, transport, url)
		return -at, err
	})
	if err != nil {
		return skipped("there is no member whose lease lives %d s or more, and %s does not tell its time: %v",
			shortestTTL, at.endpoint, err)
	}
	return judgeClock(low, high, "by the clock of "+at.endpoint)
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

// measure measures a second of etcd. ask returns a number that falls by 1 when a second of etcd has passed, and that
// may rise in between, which begins the second anew. A rise that does not show makes the second seem to be long; so
// measure goes on for as long as it does, and returns the shortest second. It takes from low to high.
func measure(ctx context.Context, ask func(context.Context) (int64, error)) (low, high time.Duration, err error) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	const most = 4 // seconds are measured
	var watch secondWatch
	for n := 0; n < most; {
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
			if ok && (high == 0 || h < high) {
				low, high = l, h
			}
			if ok && low.Seconds() < 1+fastest {
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

// secondWatch finds seconds in the answers. A second lies between two changes of the number, if the second of them is a
// fall by 1.
type secondWatch struct {
	asked  time.Time // when the last answer was asked for; zero: there is none
	left   int64     // what it said
	change *change   // the last one; nil: none was seen
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
	w.change = &change{was.asked, answered}
	if was.change == nil || left != was.left-1 {
		return 0, 0, false
	}
	return was.asked.Sub(was.change.before), answered.Sub(was.change.after), true
}
