package doctor_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/doctor"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

const password = "s3cret"

// addUser makes a user with a role of the same name, who may do that to a prefix.
func addUser(t *testing.T, root *clientv3.Client, name string, grants map[string]clientv3.PermissionType) {
	t.Helper()
	_, err := root.UserAdd(t.Context(), name, password)
	if err == nil {
		_, err = root.RoleAdd(t.Context(), name)
	}
	for prefix, kind := range grants {
		if err == nil {
			_, err = root.RoleGrantPermission(t.Context(), name, prefix, clientv3.GetPrefixRangeEnd(prefix), kind)
		}
	}
	if err == nil {
		_, err = root.UserGrantRole(t.Context(), name, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsersAndWhatTheyMayDo(t *testing.T) {
	t.Parallel()
	open := embeddedtest.Server(t)
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	makeApp(t, embeddedtest.Client(t, server.Endpoint()))
	admin := embeddedtest.TurnUsersOn(t, server.Endpoint())
	const read, both = clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermReadWrite)
	addUser(t, admin, "guest", nil)
	addUser(t, admin, "reader", map[string]clientv3.PermissionType{root: read})
	addUser(t, admin, "part", map[string]clientv3.PermissionType{
		root: read, root + "orders/": both, root + "shards/": both,
	})
	addUser(t, admin, "operator", map[string]clientv3.PermissionType{
		root: read, root + "config": both, root + "orders/": both, root + "group/": both, root + "shards/": both,
		root + "source": both, root + "deallocated/": both,
	})
	addUser(t, admin, "member", map[string]clientv3.PermissionType{root: both})
	before, err := admin.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, at, user, password string
		as                       doctor.Role
		code                     string
		want                     doctor.Result
		words                    []string
	}{
		{
			"no user", server.Endpoint(), "", "", doctor.Reader, "DRM131", doctor.Fail,
			[]string{"wants to know", "--user"},
		},
		{
			"a wrong password", server.Endpoint(), "reader", "wrong", doctor.Reader, "DRM131", doctor.Fail,
			[]string{`"reader"`, "password"},
		},
		{
			"an unknown user", server.Endpoint(), "nobody", password, doctor.Reader, "DRM131", doctor.Fail,
			[]string{`"nobody"`, "no such user"},
		},
		{
			"users are off", open.Endpoint(), "reader", password, doctor.Reader, "DRM131", doctor.Warn,
			[]string{"is off"},
		},
		{"well", server.Endpoint(), "reader", password, doctor.Reader, "DRM131", doctor.OK, []string{`"reader"`}},
		{
			"nothing", server.Endpoint(), "guest", password, doctor.Reader, "DRM141", doctor.Fail,
			[]string{
				`"guest"`, `"/drm/a/"`, "(guest) permit nothing",
				"grant-permission guest read --prefix=true /drm/a/",
			},
		},
		{"to read", server.Endpoint(), "reader", password, doctor.Reader, "DRM141", doctor.OK, []string{`"reader"`}},
		{"to read only", server.Endpoint(), "reader", password, doctor.Reader, "DRM142", doctor.Skip, []string{"--as"}},
		{
			"an operator who may read", server.Endpoint(), "reader", password, doctor.Operator, "DRM142", doctor.Fail,
			[]string{
				`write "/drm/a/"`, "(reader) permit: read below",
				"grant-permission reader readwrite --prefix=true /drm/a/",
			},
		},
		{
			"an operator who lacks a part", server.Endpoint(), "part", password, doctor.Operator, "DRM142", doctor.Fail,
			[]string{`"/drm/a/group/drains/"`, "readwrite --prefix=true /drm/a/group/drains/; "},
		},
		{
			"an operator", server.Endpoint(), "operator", password, doctor.Operator, "DRM142", doctor.OK,
			[]string{"orders and allocations", "reshard"},
		},
		{
			"an operator as a member", server.Endpoint(), "operator", password, doctor.Member, "DRM142", doctor.Fail,
			[]string{`"/drm/a/stats/"`},
		},
		{"a member", server.Endpoint(), "member", password, doctor.Member, "DRM142", doctor.OK, []string{"all keys"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(test.at)
			cfg.As, cfg.Etcd.Username, cfg.Etcd.Password = test.as, test.user, test.password
			if test.at == open.Endpoint() {
				cfg.App = ""
			}
			o := run(t, cfg)
			o.is(test.code, test.want, test.words...)
			o.only(test.code)
			for _, c := range o.all {
				if strings.Contains(c.Summary+c.Action, password) {
					t.Errorf("the password is shown: %+v", c)
				}
			}
			if test.want == doctor.OK { // what any user may know is known, also where users are on
				for _, code := range []string{"DRM151", "DRM161", "DRM163", "DRM164", "DRM182", "DRM187"} {
					o.is(code, doctor.OK)
				}
			}
		})
	}
	after, err := admin.Get(t.Context(), "x")
	if err != nil || after.Header.Revision != before.Header.Revision {
		t.Errorf("etcd went from revision %d to %d: the doctor must change nothing",
			before.Header.Revision, after.Header.Revision)
	}
}

func TestAPasswordInTheClearIsWarnedOf(t *testing.T) {
	t.Parallel()
	cfg := config("10.255.255.1:2379", embeddedtest.Server(t).Endpoint())
	cfg.Etcd.Username, cfg.Etcd.Password, cfg.Timeout, cfg.App = "u", "p", 2*time.Second, ""
	o := run(t, cfg)
	o.is("DRM117", doctor.Warn, "10.255.255.1", "TLS")
}

func TestAlarmsAndSpace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		alarm pb.AlarmType
		words []string
	}{
		{pb.AlarmType_NOSPACE, []string{"NOSPACE", "refuses all writes", "etcdctl alarm disarm"}},
		{pb.AlarmType_CORRUPT, []string{"CORRUPT", "different data"}},
	} {
		t.Run(test.alarm.String(), func(t *testing.T) {
			t.Parallel()
			client := embeddedtest.Client(t)
			status, err := client.Status(t.Context(), client.Endpoints()[0])
			if err == nil {
				_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{
					Action: pb.AlarmRequest_ACTIVATE, Alarm: test.alarm, MemberID: status.Header.MemberId,
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg := config(client.Endpoints()...)
			cfg.Only = []string{"cluster"}
			o := run(t, cfg)
			o.is("DRM163", doctor.Fail, test.words...)
		})
	}
	t.Run("a full database", func(t *testing.T) {
		t.Parallel()
		server := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.Quota = 2 << 20 })
		embeddedtest.FillUp(t, embeddedtest.Client(t, server.Endpoint()))
		cfg := config(server.Endpoint())
		cfg.Only = []string{"cluster"}
		run(t, cfg).is("DRM164", doctor.Fail, "2.0 MiB", "compact and defragment")
	})
}

func TestAClusterWithoutALeader(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.Cluster(t, 3)
	cfg := config(cluster.Endpoints()...)
	cfg.App, cfg.Only = "", []string{"cluster", "version"}
	o := run(t, cfg)
	o.only()
	o.is("DRM162", doctor.OK, "3 voting members")
	o.is("DRM152", doctor.OK)
	for i := range 2 {
		if err := cluster.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	last := embeddedtest.Client(t, cluster.Endpoints()[2])
	for ctx, cancel := context.WithTimeout(t.Context(), time.Minute); ; {
		defer cancel()
		s, err := last.Status(ctx, cluster.Endpoints()[2])
		if err != nil {
			t.Fatal(err)
		}
		if s.Leader == 0 {
			break
		}
	}
	cfg.Only, cfg.Timeout = nil, 5*time.Second
	o = run(t, cfg)
	o.is("DRM103", doctor.Warn, "connection refused", "other endpoints")
	o.is("DRM161", doctor.Fail, "no leader", "majority")
	o.is("DRM131", doctor.Skip, "no leader")
	o.is("DRM141", doctor.Skip, "DRM161")
}

func TestEndpointsOfTwoClusters(t *testing.T) {
	t.Parallel()
	a := embeddedtest.Server(t)
	b := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.Name = "other" })
	cfg := config(a.Endpoint(), b.Endpoint())
	cfg.App, cfg.Only = "", []string{"cluster"}
	run(t, cfg).is("DRM166", doctor.Fail, a.Endpoint(), b.Endpoint(), "one cluster")
}

func TestLowLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ops   uint
		want  doctor.Result
		words []string
	}{
		{2, doctor.Fail, []string{"2 operations", "needs 3"}},
		{3, doctor.Warn, []string{"3 operations", "--max-txn-ops"}},
		{77, doctor.Warn, []string{"77 operations"}},
		{128, doctor.OK, nil},
	} {
		server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
			c.MaxTxnOps, c.MaxRequestBytes = test.ops, 100<<10
		})
		cfg := config(server.Endpoint())
		cfg.Only = []string{"limits"}
		o := run(t, cfg)
		o.is("DRM181", test.want, test.words...)
		o.is("DRM182", doctor.Warn, "100 KiB", "--max-request-bytes")
	}
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxRequestBytes = 8 << 20 })
	cfg := config(server.Endpoint())
	cfg.Only = []string{"limits"}
	run(t, cfg).is("DRM182", doctor.OK, "more than")
}

// proxy starts etcd's gRPC proxy in front of an etcd. address is what it calls itself; empty: it forwards what members
// there are.
func proxy(t *testing.T, endpoint, address string) string {
	t.Helper()
	log := zap.NewNop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	kv, _ := grpcproxy.NewKvProxy(client)
	ctx, cancel := context.WithCancel(client.Ctx())
	watch, watched := grpcproxy.NewWatchProxy(ctx, log, client)
	members, listed := grpcproxy.NewClusterProxy(log, client, address, "")
	lease, leased := grpcproxy.NewLeaseProxy(ctx, client)
	server := grpc.NewServer()
	pb.RegisterKVServer(server, kv)
	pb.RegisterWatchServer(server, watch)
	pb.RegisterClusterServer(server, members)
	pb.RegisterLeaseServer(server, lease)
	pb.RegisterMaintenanceServer(server, grpcproxy.NewMaintenanceProxy(client))
	pb.RegisterAuthServer(server, grpcproxy.NewAuthProxy(client))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		server.Stop()
		cancel()
		<-served
		_ = client.Close() // its error says only that it was closed
		<-watched
		<-listed
		<-leased
	})
	return l.Addr().String()
}

func TestAProxyInBetweenIsFound(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	for name, address := range map[string]string{"with a name": "127.0.0.1:1", "without": ""} {
		t.Run(name, func(t *testing.T) {
			cfg := config(proxy(t, server.Endpoint(), address))
			cfg.App = ""
			cfg.Only, cfg.Timeout = []string{"proxy", "watch"}, 2*time.Second
			o := run(t, cfg)
			o.is("DRM171", doctor.Warn, "gRPC proxy", "--endpoints")
			o.is("DRM186", doctor.OK)
			o.is("DRM187", doctor.Warn, "no answer within")
		})
	}
}

func TestAWatchThatIsNotMade(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
		c.OnCall = func(method string) {
			if method == pb.Watch_Watch_FullMethodName {
				<-ended
			}
		}
	})
	t.Cleanup(func() { close(ended) })
	cfg := config(server.Endpoint())
	cfg.Only, cfg.Timeout = []string{"watch"}, 2*time.Second
	o := run(t, cfg)
	o.is("DRM186", doctor.Fail, "no watch", "firewall")
	o.is("DRM187", doctor.Skip, "DRM186")
}

func TestWhatIsWrongWithTheApp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		values map[string]string // in order of their keys
		as     doctor.Role
		code   string
		want   doctor.Result
		words  []string
	}{
		{"there is none", nil, doctor.Reader, "DRM191", doctor.Fail, []string{`no app "a"`, "--app"}},
		{"there is none yet", nil, doctor.Member, "DRM191", doctor.OK, []string{"first member"}},
		{
			"a newer program made it",
			map[string]string{"config": `{"schema":99,"shards":4}`},
			doctor.Reader,
			"DRM192", doctor.Fail,
			[]string{"schema 99", "drmctl of the version"},
		},
		{
			"it is no JSON",
			map[string]string{"config": "\uFEFF{}"},
			doctor.Reader, "DRM192", doctor.Fail,
			[]string{"corrupt"},
		},
		{
			"its shards are being changed",
			map[string]string{"config": appconfig.Encode(4), "reshard": `{"from":4,"to":8}`},
			doctor.Reader,
			"DRM192", doctor.Fail,
			[]string{"drmctl reshard"},
		},
		{
			"a member is newer",
			map[string]string{"config": appconfig.Encode(4), "group/schema": `{"schema":99}`},
			doctor.Reader, "DRM193", doctor.Fail,
			[]string{"99", "docs/upgrade.md"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := embeddedtest.Client(t)
			for key, value := range test.values {
				put(t, client, root+key, value)
			}
			cfg := config(client.Endpoints()...)
			cfg.Only, cfg.As = []string{"app"}, test.as
			o := run(t, cfg)
			o.is(test.code, test.want, test.words...)
			o.only(test.code)
		})
	}
	t.Run("it was overwritten", func(t *testing.T) {
		client := embeddedtest.Client(t)
		makeApp(t, client)
		makeApp(t, client)
		cfg := config(client.Endpoints()...)
		cfg.Only = []string{"app"}
		run(t, cfg).is("DRM192", doctor.Fail, "overwritten", "stop all members")
	})
}

// live makes the key of a member with a lease of that many seconds, which nobody renews.
func live(t *testing.T, c *clientv3.Client, id string, ttl int64) {
	t.Helper()
	lease, err := c.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, root+"group/members/"+id, `{}`, clientv3.WithLease(lease.ID))
}

func TestTheLifeOfLeases(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	makeApp(t, client)
	cfg := config(client.Endpoints()...)
	cfg.Only = []string{"ttl"}
	live(t, client, "m1", 30)
	run(t, cfg).is("DRM196", doctor.OK, "30 s", "at most 20s")
	live(t, client, "m2", 40)
	run(t, cfg).is("DRM196", doctor.Warn, "30 s to 40 s", "the same --lease-ttl")
	live(t, client, "m3", 600)
	run(t, cfg).is("DRM196", doctor.Warn, "600 s", "--election-timeout")
}

// The clocks of one machine run equally fast. A machine that is busy may not be able to tell.
func TestClocksOfOneMachine(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	makeApp(t, client)
	cfg := config(client.Endpoints()...)
	cfg.Only, cfg.Skip = []string{"clock"}, nil
	for _, test := range []struct {
		how  string
		make func()
	}{
		{"by the clock of " + client.Endpoints()[0], func() { live(t, client, "short", 5) }},
		{"by the lease of a member", func() { live(t, client, "m", 60) }},
		{"by a lease that nobody renews", func() {
			order, err := client.Grant(t.Context(), 600)
			if err == nil {
				_, err = client.Put(t.Context(), root+"group/drains/m", "{}", clientv3.WithLease(order.ID))
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		test.make()
		how := test.how
		o := run(t, cfg)
		if c := o.of("DRM198"); len(c) != 1 || c[0].Result == doctor.OK && !strings.Contains(c[0].Summary, how) ||
			c[0].Result != doctor.OK && c[0].Result != doctor.Skip {
			t.Errorf("%+v, want it to be fine %s", c, how)
		}
	}
}

func TestALearnerIsFound(t *testing.T) {
	t.Parallel()
	voter := embeddedtest.Server(t)
	learner := embeddedtest.Learner(t, voter)
	cfg := config(learner.Endpoint())
	cfg.App, cfg.Timeout = "", 5*time.Second
	o := run(t, cfg)
	o.is("DRM165", doctor.Fail, "learner", "--endpoints")
	o.is("DRM131", doctor.Skip, "learner")
	o.only("DRM165")
	cfg = config(learner.Endpoint(), voter.Endpoint())
	cfg.App = ""
	o = run(t, cfg)
	o.is("DRM165", doctor.Warn, "other endpoints")
	o.is("DRM162", doctor.OK, "1 voting member and 1 learner")
	o.only("DRM165")
}
