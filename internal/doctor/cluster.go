package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/login"
)

const (
	// fullSoon and fullNearly are the shares of the quota at which the database is reported.
	fullSoon, fullNearly = 0.8, 0.95
	// usualQuota is etcd's default, in bytes. etcd tells its quota from 3.6 on.
	usualQuota = 2 << 30
	// farBehind is by how many entries of etcd's log a member may be behind another one. etcd itself takes a snapshot
	// every 10,000 entries.
	farBehind = 5000
)

// askStatus asks the endpoints for their status once more, with the user's token: from 3.5.29 and 3.6.10 on, etcd tells
// nobody else where authentication is on.
func (r *run) askStatus(ctx context.Context) {
	if r.token == "" {
		return
	}
	for _, t := range r.targets {
		if t.client == nil || t.status != nil || t.broken != nil {
			continue
		}
		asking, cancel := context.WithTimeout(r.withToken(ctx), r.cfg.Timeout)
		resp, err := pb.NewMaintenanceClient(t.client.ActiveConnection()).Status(asking, &pb.StatusRequest{})
		cancel()
		t.status, t.denied = resp, err
		if err != nil {
			t.status = nil
		}
	}
}

// unknown says why the status of an endpoint is not known.
func (t *target) unknown() string {
	switch err := rpctypes.Error(t.denied); {
	case t.broken != nil:
		return because(*t.broken)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return "needs a user whom etcd accepts"
	case login.IsDenied(t.denied):
		return "needs the role root in this version of etcd"
	case t.denied != nil:
		return "etcd does not tell its status: " + rpctypes.ErrorDesc(t.denied)
	default:
		return "etcd does not tell its status"
	}
}

// checkCluster looks at the members of etcd, one by one and as a whole.
func checkCluster(ctx context.Context, r *run) {
	r.askStatus(ctx)
	r.each(ctx, leader, checkLeader)
	if r.leaderless() || !r.votes() {
		why := because(leader)
		if !r.votes() {
			why = because(learner)
		}
		for _, d := range []Definition{started, alarms} {
			r.check(ctx, d, "", func(context.Context) finding { return skipped("%s", why) })
		}
	} else {
		r.check(ctx, started, "", r.checkMembers)
		r.check(ctx, alarms, "", r.checkAlarms)
	}
	r.each(ctx, space, checkSpace)
	r.each(ctx, learner, func(s *pb.StatusResponse) finding {
		f := checkLearner(s)
		if f.result == Fail && r.votes() {
			f.result, f.summary = Warn, f.summary+" (requests go to the other endpoints)"
		}
		return f
	})
	r.check(ctx, oneness, "", r.checkOneness)
	r.check(ctx, lag, "", r.checkLag)
}

// each makes a check of each endpoint whose status is known.
func (r *run) each(ctx context.Context, d Definition, judge func(*pb.StatusResponse) finding) {
	for _, t := range r.targets {
		if t.client == nil {
			continue
		}
		r.check(ctx, d, t.endpoint, func(context.Context) finding {
			if t.status == nil {
				return skipped("%s", t.unknown())
			}
			return judge(t.status)
		})
	}
}

func checkLeader(s *pb.StatusResponse) finding {
	if s.Leader == 0 {
		return failure("start as many of etcd's members as make a majority, and see whether they reach each other",
			"this member knows of no leader: the cluster has no quorum, or just elects one")
	}
	return fine("%x leads in term %d", s.Leader, s.RaftTerm)
}

func checkSpace(s *pb.StatusResponse) finding {
	const mend = "compact and defragment etcd (etcdctl compact, etcdctl defrag), give it " +
		"--auto-compaction-retention, or raise --quota-backend-bytes"
	quota, of := s.DbSizeQuota, "of a quota of "+humanize.IBytes(uint64(max(0, s.DbSizeQuota)))
	if quota <= 0 {
		quota, of = usualQuota, "where the quota, which this version does not tell, is 2.0 GiB by default"
	}
	text := fmt.Sprintf("the database has %s, %s of it in use, %s", humanize.IBytes(uint64(max(0, s.DbSize))),
		humanize.IBytes(uint64(max(0, s.DbSizeInUse))), of)
	switch share := float64(s.DbSize) / float64(quota); {
	case share >= fullNearly && s.DbSizeQuota > 0:
		return failure(mend, "%s: %.0f %% are full, and at 100 %% etcd refuses all writes", text, 100*share)
	case share >= fullSoon:
		return warning(mend, "%s: %.0f %% are full", text, 100*share)
	}
	return fine("%s", text)
}

func checkLearner(s *pb.StatusResponse) finding {
	if s.IsLearner {
		return failure("name the voting members in --endpoints, or promote this one (etcdctl member promote)",
			"it is a learner, which serves no linearizable reads, no writes and no watches")
	}
	return fine("it is a voting member")
}

// checkMembers compares the members of the cluster with the endpoints.
func (r *run) checkMembers(ctx context.Context) finding {
	resp, err := r.client.MemberList(ctx)
	switch {
	case login.IsDenied(err):
		return skipped("needs the role root in this version of etcd")
	case err != nil:
		return skipped("etcd does not list its members: %s", rpctypes.ErrorDesc(err))
	}
	var voters, learners, absent []string
	for _, m := range resp.Members {
		name := m.Name
		switch {
		case name == "" && !m.IsLearner:
			absent = append(absent, strings.Join(m.PeerURLs, ","))
		case m.IsLearner:
			learners = append(learners, name)
		}
		if !m.IsLearner {
			voters = append(voters, name)
		}
	}
	text := numbered(len(voters), "voting member")
	if len(learners) > 0 {
		text += " and " + numbered(len(learners), "learner")
	}
	switch {
	case len(absent) > 0:
		return warning("start the member, or remove it (etcdctl member remove): it counts for the quorum",
			"%s, of which those at %s were never started", text, strings.Join(absent, " and "))
	case len(voters) > 1 && len(r.targets) == 1:
		return fine("%s; --endpoints names one: name several, so that requests go around a dead one", text)
	}
	return fine("%s", text)
}

func (r *run) checkAlarms(ctx context.Context) finding {
	var raised []string
	note := func(text string) {
		if !slices.Contains(raised, text) {
			raised = append(raised, text)
		}
	}
	resp, err := r.client.AlarmList(ctx)
	if err == nil {
		for _, a := range resp.Alarms {
			note(fmt.Sprintf("%s at member %x", a.Alarm, a.MemberID))
		}
	}
	if err != nil && len(raised) == 0 {
		for _, t := range r.targets { // a status names alarms, too
			for _, e := range t.status.GetErrors() {
				if strings.Contains(e, "alarm:") {
					note(e)
				}
			}
		}
	}
	all := strings.Join(raised, ", ")
	switch {
	case strings.Contains(all, pb.AlarmType_CORRUPT.String()):
		return failure("etcd's members have different data: see etcd's page on data corruption, and restore the member",
			"an alarm is raised: %s", all)
	case strings.Contains(all, pb.AlarmType_NOSPACE.String()):
		return failure("compact and defragment etcd, raise --quota-backend-bytes, then etcdctl alarm disarm",
			"an alarm is raised, and etcd refuses all writes: %s", all)
	case len(raised) > 0:
		return failure("see etcdctl alarm list", "an alarm is raised: %s", all)
	case login.IsDenied(err):
		return skipped("needs the role root in this version of etcd")
	case err != nil:
		return skipped("etcd does not list its alarms: %s", rpctypes.ErrorDesc(err))
	}
	return fine("no alarm is raised")
}

// statuses are those that are known.
func (r *run) statuses() []*pb.StatusResponse {
	var all []*pb.StatusResponse
	for _, t := range r.targets {
		if t.status != nil && t.broken == nil {
			all = append(all, t.status)
		}
	}
	return all
}

func (r *run) checkOneness(context.Context) finding {
	found := map[uint64][]string{}
	var order []uint64
	for _, t := range r.targets {
		if t.status == nil {
			continue
		}
		id := t.status.Header.GetClusterId()
		if found[id] == nil {
			order = append(order, id)
		}
		found[id] = append(found[id], t.endpoint)
	}
	switch len(order) {
	case 0:
		return skipped("no member has told its status")
	case 1:
		return fine("all endpoints are of cluster %x", order[0])
	}
	var texts []string
	for _, id := range order {
		texts = append(texts, fmt.Sprintf("%s of cluster %x", strings.Join(found[id], ", "), id))
	}
	return failure("name members of one cluster in --endpoints: else half of the requests see other data",
		"the endpoints are of different clusters: %s", strings.Join(texts, "; "))
}

func (r *run) checkLag(context.Context) finding {
	all := r.statuses()
	if len(all) == 0 {
		return skipped("no member has told its status")
	}
	least, most := all[0].RaftAppliedIndex, all[0].RaftAppliedIndex
	for _, s := range all {
		least, most = min(least, s.RaftAppliedIndex), max(most, s.RaftIndex)
	}
	if most-least > farBehind {
		return warning("see whether the member that is behind is overloaded, or has a slow disk",
			"a member is %d entries behind", most-least)
	}
	if most == least {
		return fine("no member is behind")
	}
	return fine("the members are apart by %d of the log's entries at most", most-least)
}

// numbered says how many things there are.
func numbered(n int, thing string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(n, thing, ""))
}

// checkProxy finds out whether a gRPC proxy of etcd stands between this machine and etcd.
func checkProxy(ctx context.Context, r *run) {
	r.check(ctx, grpcProxy, "", func(ctx context.Context) finding {
		const mend = "name etcd's members in --endpoints, instead of the proxy"
		const why = "it shares watches among clients, and does not answer what DRM asks about their progress"
		resp, err := r.client.MemberList(ctx)
		if err == nil && resp.Header.GetClusterId() == 0 && noIDs(resp.Members) {
			return warning(mend, "etcd's gRPC proxy is in between: it lists itself as a member of etcd; %s", why)
		}
		shared, err := r.sharesWatches(ctx)
		switch {
		case err != nil:
			return skipped("no watch could be made: %v", err)
		case shared:
			return warning(mend, "etcd's gRPC proxy is in between: a second watch was answered by it alone; %s", why)
		}
		return fine("no gRPC proxy is in between")
	})
}

// noIDs says whether no member has an id: etcd's proxy makes its members up.
func noIDs(members []*pb.Member) bool {
	return !slices.ContainsFunc(members, func(m *pb.Member) bool { return m.ID != 0 })
}
