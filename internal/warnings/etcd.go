package warnings

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// etcd warns of what is wrong with etcd, and of what is below the app's prefix that nobody understands.
func (l *list) etcd() {
	if n := l.Status.Corrupt; n > 0 {
		l.add(NotUnderstood, nil, time.Time{}, "drmctl verify names them",
			"%s below the app's prefix not understood, and ignored", is(n, "key"))
	}
	c := l.Cluster
	var leaderless, down, full []string
	var downs, fulls []string // words
	for _, m := range c.Members {
		if m.Leaderless {
			leaderless = append(leaderless, m.Name)
		}
		if !m.Answers && !m.Elsewhere {
			down = append(down, m.Name)
			downs = append(downs, fmt.Sprintf("%q (%s)", m.Name, m.Why))
		}
		if m.Quota > 0 && m.Size >= m.Quota/100*nearQuota {
			full = append(full, m.Name)
			fulls = append(fulls, fmt.Sprintf("%s of %s at %q, of which %s in use", size(m.Size), size(m.Quota), m.Name,
				size(m.Used)))
		}
	}
	if len(down) == 0 {
		for _, s := range c.Silent {
			down = append(down, s.Endpoint)
			downs = append(downs, fmt.Sprintf("%q (%s)", s.Endpoint, s.Why))
		}
	}
	switch {
	case len(leaderless) > 0:
		l.add(EtcdLeaderless, leaderless, time.Time{}, "start the members of etcd that are down",
			"etcd has no leader, as these members see it: %s", quoted(leaderless, len(leaderless)))
	case c.Leaderless:
		l.add(EtcdLeaderless, nil, time.Time{}, "start the members of etcd that are down", "etcd has no leader")
	}
	if len(down) > 0 {
		l.add(EtcdMemberDown, down, time.Time{}, "start these members of etcd, or mend the network",
			"members of etcd do not answer: %s", joined(downs, len(downs)))
	}
	if len(c.Alarms) > 0 {
		l.add(EtcdAlarm, c.Alarms, time.Time{}, "etcdctl alarm list; docs/codes.md says how to make room",
			"etcd has an alarm: %s", joined(c.Alarms, len(c.Alarms)))
	}
	if len(full) > 0 {
		l.add(EtcdFull, full, time.Time{}, "compact and defragment etcd, or raise its --quota-backend-bytes",
			"etcd's database is nearly full: %s", joined(fulls, len(fulls)))
	}
	if c.Read > etcdSlow {
		l.add(EtcdSlow, nil, time.Time{}, "look at etcd's disks, its load and the network",
			"etcd is slow: to read one key takes %v", c.Read.Round(time.Millisecond))
	}
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(0, bytes))) }
