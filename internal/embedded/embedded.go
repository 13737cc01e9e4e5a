package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config of a server. Its zero value suits tests: a temporary data dir and free loopback ports.
type Config struct {
	// Name of the member in its cluster. Default "drm". A data dir must keep its name.
	Name string
	// DataDir is where etcd keeps its state; it is created if need be. Default "": a temporary folder, which Close
	// removes.
	DataDir string
	// ListenClient is where the server serves clients: host:port, or http://host:port. Port 0 means a free port.
	// Default "": a free port of 127.0.0.1.
	ListenClient string
	// ListenPeer is where the server serves other members of the cluster, in the form of ListenClient.
	ListenPeer string
	// Quota is the size in bytes that the database may reach; beyond it etcd refuses writes. Default 0: etcd's own
	// default, 2 GiB.
	Quota int64
	// AutoCompaction makes etcd drop old history: a duration such as "5m" keeps about that much of it, a number such as
	// "10000" keeps that many revisions. Default "": history is kept, and the database grows with each write.
	AutoCompaction string
	// AutoCompactionMode is "periodic" or "revision". Default "": the form of AutoCompaction decides.
	AutoCompactionMode string
	// Logger gets etcd's own log. Default nil: no log, except that the reason goes to standard error when etcd ends the
	// whole process (a disk that is full or gone).
	Logger *zap.Logger
	// UnsafeNoFsync leaves out fsync. That is much faster, and loses data if the machine crashes. It is for tests.
	UnsafeNoFsync bool
	// TickMs and ElectionMs are etcd's heartbeat interval and election timeout in milliseconds. Defaults 100 and 1000.
	// The shortest lease that etcd grants is 1.5 election timeouts, rounded up to seconds.
	TickMs, ElectionMs uint
	// MaxTxnOps is how many operations a transaction may have. Default 0: etcd's own default, 128.
	MaxTxnOps uint
	// MaxRequestBytes is how many bytes a request may have. Default 0: etcd's own default, 1.5 MiB.
	MaxRequestBytes uint
	// InitialCluster names all members of a cluster and where their peers are: name=http://host:port,... It is for a
	// cluster whose members are processes; StartCluster sets it itself. Default "": this server alone.
	InitialCluster string
	// Joins says that the cluster of InitialCluster exists, and that this server was added to it before.
	Joins bool
	// ClientTLS, if given, makes the server serve clients over TLS only.
	ClientTLS *TLS
	// BcryptCost is the cost of comparing a password, as a power of two, at least 4. Default 0: etcd's own default, 10.
	BcryptCost uint
	// TokenTTL is how long an unused token lives once users are on, in whole seconds. Default 0: etcd's own default, 5
	// min.
	TokenTTL time.Duration
	// OnCall, if given, is called with the full method name of each call of a client when the call arrives. It is for
	// tests that count calls, and is called from many goroutines.
	OnCall func(method string)
}

// TLS has the paths of a server's PEM files.
type TLS struct {
	Cert, Key string
	// ClientCA, if given, makes clients show a certificate that one of these authorities has signed. The certificate's
	// common name is the user, once users are on.
	ClientCA string
}

// Errors of Start that a caller can test for.
var (
	// ErrDataDirInUse says that another etcd runs on the data dir.
	ErrDataDirInUse = errors.New("data dir is in use by a running etcd")
	// errPortTaken says that another process took a port between its being picked as free and etcd's listening on it.
	errPortTaken = errors.New("picked port was taken meanwhile")
)

// Server is one running etcd. Its methods are safe for concurrent use.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	dataDir  string
	tempDir  string // the folder to remove; "" if the caller named a data dir
	hangUp   context.CancelFunc

	closeOnce sync.Once
	closeErr  error
}

// portAttempts is how often ports are picked if another process is faster to listen on one.
const portAttempts = 10

// Start starts etcd and returns once it serves requests, or with an error if ctx ends first. ctx does not bound the
// life of the server, which the caller ends with Close. The error says in one line what is wrong with the
// configuration, which address cannot be listened on, or that the data dir belongs to a running etcd (ErrDataDirInUse).
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := startOnFreePorts(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	return s, nil
}

func startOnFreePorts(ctx context.Context, cfg Config) (*Server, error) {
	for attempt := 1; ; attempt++ {
		s, err := start(ctx, cfg)
		if err == nil || !errors.Is(err, errPortTaken) || attempt == portAttempts {
			return s, err
		}
	}
}

// start starts etcd once. If it fails because a picked port was taken meanwhile, the error is an errPortTaken.
func start(ctx context.Context, cfg Config) (*Server, error) {
	conf, addr, err := etcdConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{endpoint: addr.client.dial, dataDir: cfg.DataDir}
	if err := s.prepareDataDir(); err != nil {
		return nil, err
	}
	conf.Dir = s.dataDir
	calls, hangUp := context.WithCancel(context.Background())
	s.hangUp = hangUp
	conf.GRPCAdditionalServerOptions = endCallsWith(calls, cfg.OnCall)

	started := startEtcd(conf)
	select {
	case o := <-started:
		if o.err != nil {
			hangUp()
			return nil, errors.Join(explainStart(o.err, addr), s.removeTempDir())
		}
		s.etcd = o.etcd
	case <-ctx.Done():
		go s.abandon(started)
		return nil, fmt.Errorf("not started in time: %w", context.Cause(ctx))
	}
	if err := s.waitUntilReady(ctx); err != nil {
		hangUp()
		s.etcd.Close()
		return nil, errors.Join(err, s.removeTempDir())
	}
	return s, nil
}

// prepareDataDir makes a temporary data dir, or checks that the caller's is free.
func (s *Server) prepareDataDir() (err error) {
	if s.dataDir != "" {
		return checkDataDir(s.dataDir)
	}
	if s.tempDir, err = os.MkdirTemp("", "drm-etcd-"); err != nil {
		return fmt.Errorf("make a data dir: %w", err)
	}
	s.dataDir = s.tempDir
	return nil
}

// removeTempDir removes the data dir if it is a temporary one.
func (s *Server) removeTempDir() error {
	if s.tempDir == "" {
		return nil
	}
	return os.RemoveAll(s.tempDir)
}

// outcome is how etcd's start ended.
type outcome struct {
	etcd *embed.Etcd
	err  error
}

// startEtcd starts etcd on a goroutine of its own: etcd's start takes no context, and may wait without end (for a lock,
// for peers).
func startEtcd(conf *embed.Config) <-chan outcome {
	started := make(chan outcome, 1)
	go func() {
		e, err := embed.StartEtcd(conf)
		started <- outcome{e, err}
	}()
	return started
}

// abandon cleans up after a start that nobody waits for any more. The data dir goes last, since an etcd that loses its
// folder ends the process.
func (s *Server) abandon(started <-chan outcome) {
	o := <-started
	s.hangUp()
	if o.err == nil {
		o.etcd.Close()
	}
	_ = s.removeTempDir() // nobody is there to be told
}

// waitUntilReady returns nil once etcd serves requests.
func (s *Server) waitUntilReady(ctx context.Context) error {
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not ready in time: %w", context.Cause(ctx))
	case err := <-s.etcd.Err():
		return fmt.Errorf("failed while starting: %w", err)
	case <-s.etcd.Server.StopNotify():
		return errors.New("stopped while starting")
	}
}

// Endpoint is the host:port at which clients reach the server.
func (s *Server) Endpoint() string { return s.endpoint }

// DataDir is where the server keeps its state.
func (s *Server) DataDir() string { return s.dataDir }

// Err delivers the error that ended the server by itself. The channel is closed after Close.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close ends the calls of clients, stops the server, waits for that, and removes a temporary data dir. Calls after the
// first wait for it and return the same error.
func (s *Server) Close() error { return s.close(false) }

// close stops the server. If hard, the server stops as if it were killed: a leader does not hand over first.
func (s *Server) close(hard bool) error {
	s.closeOnce.Do(func() {
		if hard {
			s.etcd.Server.HardStop()
		}
		s.hangUp()
		s.etcd.Close()
		s.closeErr = s.removeTempDir()
	})
	return s.closeErr
}

// etcdConfig translates a Config into etcd's. The caller sets Dir.
func etcdConfig(cfg Config) (*embed.Config, addresses, error) {
	addr, err := resolve(cfg)
	if err != nil {
		return nil, addresses{}, err
	}
	conf := embed.NewConfig()
	conf.Name = cfg.Name
	if conf.Name == "" {
		conf.Name = "drm"
	}
	conf.ListenClientUrls, conf.AdvertiseClientUrls = addr.client.urls()
	conf.ListenPeerUrls, conf.AdvertisePeerUrls = addr.peer.urls()
	conf.InitialCluster = cfg.InitialCluster
	if conf.InitialCluster == "" {
		conf.InitialCluster = conf.Name + "=" + conf.AdvertisePeerUrls[0].String()
	}
	if cfg.Joins {
		conf.ClusterState = embed.ClusterStateFlagExisting
	}
	if cfg.Quota < 0 {
		return nil, addresses{}, fmt.Errorf("quota: got %d, want 0 or a number of bytes", cfg.Quota)
	}
	conf.QuotaBackendBytes = cfg.Quota
	if cfg.AutoCompaction != "" {
		if conf.AutoCompactionMode, err = compactionMode(cfg); err != nil {
			return nil, addresses{}, err
		}
		conf.AutoCompactionRetention = cfg.AutoCompaction
	}
	if cfg.TickMs != 0 {
		conf.TickMs = cfg.TickMs
	}
	if cfg.ElectionMs != 0 {
		conf.ElectionMs = cfg.ElectionMs
	}
	if cfg.MaxTxnOps != 0 {
		conf.MaxTxnOps = cfg.MaxTxnOps
	}
	if cfg.MaxRequestBytes != 0 {
		conf.MaxRequestBytes = cfg.MaxRequestBytes
	}
	if cfg.BcryptCost != 0 {
		conf.BcryptCost = cfg.BcryptCost
	}
	if cfg.TokenTTL != 0 {
		conf.AuthTokenTTL = uint(cfg.TokenTTL / time.Second)
	}
	if t := cfg.ClientTLS; t != nil {
		for _, urls := range [][]url.URL{conf.ListenClientUrls, conf.AdvertiseClientUrls} {
			urls[0].Scheme = "https"
		}
		conf.ClientTLSInfo.CertFile, conf.ClientTLSInfo.KeyFile = t.Cert, t.Key
		conf.ClientTLSInfo.TrustedCAFile, conf.ClientTLSInfo.ClientCertAuth = t.ClientCA, t.ClientCA != ""
	}
	conf.UnsafeNoFsync = cfg.UnsafeNoFsync
	logger := cfg.Logger
	if logger == nil {
		logger = lastWords()
	}
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	return conf, addr, nil
}

// lastWords is a logger that logs only why etcd ends the process.
func lastWords() *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zap.DPanicLevel))
}

func compactionMode(cfg Config) (string, error) {
	switch cfg.AutoCompactionMode {
	case embed.CompactorModePeriodic, embed.CompactorModeRevision:
		return cfg.AutoCompactionMode, nil
	case "":
	default:
		return "", fmt.Errorf("auto-compaction mode: got %q, want periodic or revision", cfg.AutoCompactionMode)
	}
	if n, err := strconv.ParseInt(cfg.AutoCompaction, 10, 64); err == nil && n >= 0 {
		return embed.CompactorModeRevision, nil
	}
	if d, err := time.ParseDuration(cfg.AutoCompaction); err == nil && d > 0 {
		return embed.CompactorModePeriodic, nil
	}
	return "", fmt.Errorf("auto-compaction: got %q, want a duration such as 5m or a number of revisions",
		cfg.AutoCompaction)
}

// checkDataDir returns an error if a running etcd has the data dir, since etcd itself would wait for it without end.
func checkDataDir(dir string) error {
	db := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("data dir: %w", err)
	}
	// etcd would wait for the lock of the database. Reading takes a shared lock, so nothing is changed here.
	b, err := bbolt.Open(db, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
	if errors.Is(err, bbolt.ErrTimeout) { //nolint:staticcheck // the alias is what Open documents
		return fmt.Errorf("%w: %s", ErrDataDirInUse, dir)
	}
	if err != nil {
		return fmt.Errorf("data dir %s: %w", dir, err)
	}
	return b.Close()
}

// explainStart marks an error that says that a picked port was taken before etcd listened on it.
func explainStart(err error, addr addresses) error {
	if isListenError(err) && (addr.client.picked || addr.peer.picked) {
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

func isListenError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}

func (a address) urls() (listen, advertise []url.URL) {
	return []url.URL{{Scheme: "http", Host: a.listen}}, []url.URL{{Scheme: "http", Host: a.dial}}
}
