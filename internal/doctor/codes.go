package doctor

import (
	"context"
	"slices"
)

// Definition is a check that the doctor knows. Its code never changes its meaning.
type Definition struct {
	Code     string // DRM1nn
	Category string
	Name     string
}

// The checks, by category. docs/doctor.md describes each.
var (
	syntax    = Definition{"DRM101", "endpoints", "syntax"}
	names     = Definition{"DRM102", "endpoints", "name"}
	connects  = Definition{"DRM103", "endpoints", "connect"}
	httpProxy = Definition{"DRM104", "endpoints", "http-proxy"}

	transport  = Definition{"DRM111", "tls", "transport"}
	trust      = Definition{"DRM112", "tls", "trust"}
	serverName = Definition{"DRM113", "tls", "name"}
	validity   = Definition{"DRM114", "tls", "validity"}
	clientCert = Definition{"DRM115", "tls", "client-certificate"}
	ownCert    = Definition{"DRM116", "tls", "own-validity"}
	inClear    = Definition{"DRM117", "tls", "password-in-clear"}

	answers = Definition{"DRM121", "etcd", "answers"}

	signIn = Definition{"DRM131", "auth", "login"}

	reading = Definition{"DRM141", "permissions", "read"}
	writing = Definition{"DRM142", "permissions", "write"}

	version  = Definition{"DRM151", "version", "known-bugs"}
	versions = Definition{"DRM152", "version", "same"}

	leader  = Definition{"DRM161", "cluster", "leader"}
	started = Definition{"DRM162", "cluster", "members"}
	alarms  = Definition{"DRM163", "cluster", "alarms"}
	space   = Definition{"DRM164", "cluster", "space"}
	learner = Definition{"DRM165", "cluster", "learner"}
	oneness = Definition{"DRM166", "cluster", "one-cluster"}
	lag     = Definition{"DRM167", "cluster", "lag"}

	grpcProxy = Definition{"DRM171", "proxy", "grpc-proxy"}

	readTime = Definition{"DRM176", "latency", "reads"}

	txnOps       = Definition{"DRM181", "limits", "max-txn-ops"}
	requestBytes = Definition{"DRM182", "limits", "max-request-bytes"}

	watches  = Definition{"DRM186", "watch", "watch"}
	progress = Definition{"DRM187", "watch", "progress"}

	appExists = Definition{"DRM191", "app", "exists"}
	appConfig = Definition{"DRM192", "app", "config"}
	schemas   = Definition{"DRM193", "app", "schemas"}

	leaseTTL  = Definition{"DRM196", "ttl", "lease-ttl"}
	clockRate = Definition{"DRM198", "clock", "rate"}
)

// Definitions returns all checks, by code.
func Definitions() []Definition {
	return []Definition{
		syntax, names, connects, httpProxy,
		transport, trust, serverName, validity, clientCert, ownCert, inClear,
		answers, signIn, reading, writing, version, versions,
		leader, started, alarms, space, learner, oneness, lag,
		grpcProxy, readTime, txnOps, requestBytes, watches, progress,
		appExists, appConfig, schemas, leaseTTL, clockRate,
	}
}

func definitionsOf(category string) []Definition {
	return slices.DeleteFunc(Definitions(), func(d Definition) bool { return d.Category != category })
}

// category is a group of checks that are made together.
type category struct {
	name  string
	needs []string // categories that come before it, and without whose success it cannot be checked
	run   func(ctx context.Context, r *run)
}

// categories are all, in their order.
func categories() []category {
	return []category{
		{"endpoints", nil, checkEndpoints},
		{"tls", []string{"endpoints"}, checkTLS},
		{"etcd", []string{"tls"}, checkAnswers},
		{"auth", []string{"etcd"}, checkLogin},
		{"permissions", []string{"auth"}, checkPermissions},
		{"version", []string{"etcd"}, checkVersions},
		{"cluster", []string{"etcd"}, checkCluster},
		{"proxy", []string{"permissions"}, checkProxy},
		{"latency", []string{"permissions"}, checkLatency},
		{"limits", []string{"permissions"}, checkLimits},
		{"watch", []string{"permissions"}, checkWatch},
		{"app", []string{"permissions"}, checkApp},
		{"ttl", []string{"app"}, checkTTL},
		{"clock", []string{"etcd"}, checkClock},
	}
}

// Categories returns the names of all categories, in the order in which they are checked.
func Categories() []string {
	var all []string
	for _, c := range categories() {
		all = append(all, c.name)
	}
	return all
}
