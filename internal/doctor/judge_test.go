package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// want is what a judge should find.
type want struct {
	result Result
	words  string
}

func (w want) check(t *testing.T, name string, got finding) {
	t.Helper()
	if got.result != w.result || !strings.Contains(got.summary+"\n"+got.action, w.words) {
		t.Errorf("%s: %+v, want %+v", name, got, w)
	}
}

func TestVersionsOfEtcd(t *testing.T) {
	for version, w := range map[string]want{
		"3.3.27":           {Fail, "3.5 or later"},
		"3.4.24":           {Fail, "progress"},
		"3.4.25":           {Warn, "3.4.42"},
		"3.4.42":           {Warn, "no longer maintained"},
		"3.5.0":            {Fail, "production"},
		"3.5.2":            {Fail, "upgrade etcd to 3.5.28"},
		"3.5.3":            {Fail, "overtake"},
		"3.5.7":            {Fail, "etcd-io/etcd#15695"},
		"3.5.8":            {Warn, "compaction"},
		"3.5.12":           {Warn, "etcd-io/etcd#17425"},
		"3.5.27":           {Warn, "old data"},
		"3.5.28":           {OK, ""},
		"3.6.4":            {Warn, "lease that was revoked"},
		"3.6.8":            {Warn, "3.6.9"},
		"3.6.9":            {OK, ""},
		"3.7.3":            {OK, ""},
		"3.7.0-rc.0":       {OK, ""},
		"3.5.2+build":      {Fail, "production"},
		"4.0.0":            {OK, ""},
		"":                 {Warn, "no version"},
		"latest":           {Warn, "no version"},
		"3.5":              {Warn, "no version"},
		"3.5.-1":           {Warn, "no version"},
		"3.5.99999999999x": {Warn, "no version"},
	} {
		w.check(t, version, judge(version))
	}
	if f := judge("3.5.4"); strings.Contains(f.summary, "production") {
		t.Errorf("3.5.4: %+v, which is about 3.5.0 to 3.5.2", f)
	}
}

func TestTheStateOfAMember(t *testing.T) {
	const mib = 1 << 20
	for name, w := range map[string]struct {
		status *pb.StatusResponse
		judge  func(*pb.StatusResponse) finding
		want   want
	}{
		"no leader":     {&pb.StatusResponse{}, checkLeader, want{Fail, "no leader"}},
		"a leader":      {&pb.StatusResponse{Leader: 255}, checkLeader, want{OK, "ff leads"}},
		"a learner":     {&pb.StatusResponse{IsLearner: true}, checkLearner, want{Fail, "learner"}},
		"a voter":       {&pb.StatusResponse{}, checkLearner, want{OK, "voting"}},
		"room":          {&pb.StatusResponse{DbSize: 79 * mib, DbSizeQuota: 100 * mib}, checkSpace, want{OK, "79 MiB"}},
		"little room":   {&pb.StatusResponse{DbSize: 80 * mib, DbSizeQuota: 100 * mib}, checkSpace, want{Warn, "80 %"}},
		"no room":       {&pb.StatusResponse{DbSize: 95 * mib, DbSizeQuota: 100 * mib}, checkSpace, want{Fail, "95 %"}},
		"unknown quota": {&pb.StatusResponse{DbSize: 3000 * mib}, checkSpace, want{Warn, "by default"}},
	} {
		w.want.check(t, name, w.judge(w.status))
	}
}

func TestAMemberThatIsBehind(t *testing.T) {
	at := func(applied uint64) *target {
		return &target{status: &pb.StatusResponse{RaftIndex: applied, RaftAppliedIndex: applied}}
	}
	r := &run{targets: []*target{at(100), at(100 + farBehind)}}
	want{OK, "5000"}.check(t, "near", r.checkLag(t.Context()))
	r.targets = append(r.targets, at(99))
	want{Warn, "5001 entries behind"}.check(t, "far", r.checkLag(t.Context()))
	want{Skip, "no member"}.check(t, "none", (&run{}).checkLag(t.Context()))
}

func TestLatency(t *testing.T) {
	took := func(most time.Duration) []time.Duration {
		all := make([]time.Duration, 100)
		for i := range all {
			all[i] = time.Millisecond
		}
		all[7] = most
		return all
	}
	want{OK, "p50 1ms"}.check(t, "fast", judgeLatency(took(99*time.Millisecond)))
	want{Warn, "p99 100ms"}.check(t, "slow", judgeLatency(took(100*time.Millisecond)))
	want{Fail, "renew"}.check(t, "too slow", judgeLatency(took(time.Second)))
	want{OK, "1 linearizable"}.check(t, "one", judgeLatency([]time.Duration{time.Millisecond}))
}

func TestTheLimitOfOperationsIsFound(t *testing.T) {
	for limit, w := range map[int]want{
		0: {Fail, "0 operations"}, 1: {Fail, "needs 3"}, 3: {Warn, "3 operations"}, 127: {Warn, "127"},
		128: {OK, "128"},
	} {
		asked := 0
		f := judgeOps(func(n int) (bool, error) { asked++; return n <= limit, nil })
		w.check(t, "", f)
		if asked > 8 {
			t.Errorf("asked %d times for a limit of %d", asked, limit)
		}
	}
	broken := func(int) (bool, error) { return false, errors.New("it went wrong") }
	want{Fail, "went wrong"}.check(t, "", judgeOps(broken))
}

func TestClocks(t *testing.T) {
	ms := time.Millisecond
	for name, w := range map[string]struct {
		low, high time.Duration
		want      want
	}{
		"equal":             {980 * ms, 1020 * ms, want{OK, "980ms"}},
		"not sure":          {900 * ms, 1200 * ms, want{Skip, "too long"}},
		"perhaps":           {1040 * ms, 1080 * ms, want{OK, ""}},
		"slow etcd":         {1060 * ms, 1100 * ms, want{Warn, "counts 108 s"}},
		"slower etcd":       {1110 * ms, 1150 * ms, want{Fail, "counts 113 s"}},
		"fast etcd":         {900 * ms, 940 * ms, want{Warn, "counts 92 s"}},
		"faster etcd":       {700 * ms, 890 * ms, want{Fail, "10 %"}},
		"surely fast, wide": {300 * ms, 890 * ms, want{Fail, "10 %"}},
	} {
		w.want.check(t, name, judgeClock(w.low, w.high, "by x"))
	}
}

// The seconds that are left to a lease are 4 after a renewal, until a second has passed.
func TestASecondIsSeenInWhatIsLeftOfALease(t *testing.T) {
	begin := time.Now()
	for name, test := range map[string]struct {
		at   []int // ms
		left []int64
		want []time.Duration // from, to; of the last second that is seen
	}{
		"two falls":            {[]int{0, 100, 1080, 1100}, []int64{4, 3, 3, 2}, []time.Duration{980, 1101}},
		"a renewal and a fall": {[]int{0, 100, 1080, 1100}, []int64{3, 4, 4, 3}, []time.Duration{980, 1101}},
		"a fall and a renewal": {[]int{0, 100, 700}, []int64{4, 3, 4}, nil},
		"one fall":             {[]int{0, 100, 200}, []int64{4, 3, 3}, nil},
		"a gap":                {[]int{0, 100, 2500}, []int64{4, 3, 1}, nil},
		"nothing":              {[]int{0}, []int64{4}, nil},
	} {
		var w secondWatch
		var got []time.Duration
		for i, ms := range test.at {
			asked := begin.Add(time.Duration(ms) * time.Millisecond)
			if low, high, ok := w.see(asked, asked.Add(time.Millisecond), test.left[i]); ok {
				got = []time.Duration{low / time.Millisecond, high / time.Millisecond}
			}
		}
		if len(got) != len(test.want) || len(got) == 2 && (got[0] != test.want[0]-1 || got[1] != test.want[1]) {
			t.Errorf("%s: %v, want %v less 1 to %v", name, got, test.want, test.want)
		}
	}
}

// Seconds that follow one another are told more exactly than one, and a jump of the clock begins anew.
func TestSecondsThatFollowOneAnother(t *testing.T) {
	begin := time.Now()
	w := secondWatch{how: steady}
	var low, high time.Duration
	see := func(ms int, left int64, want bool) {
		t.Helper()
		asked := begin.Add(time.Duration(ms) * time.Millisecond)
		l, h, ok := w.see(asked, asked.Add(20*time.Millisecond), left)
		if ok != want {
			t.Errorf("at %d ms: %v", ms, ok)
		}
		if ok {
			low, high = l, h
		}
	}
	for n := range 4 { // the seconds take 1040 ms
		see(1040*n, int64(10-n), n > 1)
		see(1040*n+1020, int64(10-n), false)
	}
	// From 1040+20 ms to 3*1040-20 ms, and from 1020 ms to 3*1040+20 ms: two seconds.
	if low != 1020*time.Millisecond || high != 1060*time.Millisecond {
		t.Errorf("%v to %v", low, high)
	}
	see(4200, 3, false)
	see(5200, 2, true)
	if low > time.Second || high < time.Second {
		t.Errorf("after a jump: %v to %v", low, high)
	}
}
