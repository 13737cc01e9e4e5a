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

// Config of a server. Its zero value is one that tests can use: a temporary data dir and free loopback ports.
type Config struct {
	// Name of the member in its cluster. Default "drm". A data dir must keep its name.
	Name string
	// DataDir is where etcd keeps its state, made if need be. Default "": a temporary one, removed by Close.
	DataDir string
	// ListenClient is where clients are served: host:port, or http://host:port. A port of 0 takes a free one. Default
	// "": a free port of 127.0.0.1.
	ListenClient string
	// ListenPeer is where other members of the cluster are served; as ListenClient.
	ListenPeer string
	// Quota is the size in bytes that the database may reach; beyond it etcd refuses writes. Default 0: etcd's own, 2
	// GiB.
	Quota int64
	// AutoCompaction drops history by itself: a duration such as "5m" keeps about that much, a number such as "10000"
	// that many revisions. Default "": history is kept, and the database grows with each write.
	AutoCompaction string
	// AutoCompactionMode is "periodic" or "revision". Default "": told from the form of AutoCompaction.
	AutoCompactionMode string
	// Logger gets etcd's own log. Default nil: silence, but for what makes etcd end the whole process (a disk that is
	// full or gone), which goes to standard error.
	Logger *zap.Logger
	// UnsafeNoFsync leaves out fsync: much faster, and loses data if the machine crashes. For tests.
	UnsafeNoFsync bool
	// TickMs and ElectionMs are etcd's heartbeat interval and election timeout in milliseconds. Defaults 100 and 1000.
	// The shortest lease that etcd grants is 1.5 election timeouts, rounded up to seconds.
	TickMs, ElectionMs uint
	// MaxTxnOps is the most operations that a transaction may have. Default 0: etcd's own, 128.
	MaxTxnOps uint
	// MaxRequestBytes is the most bytes that a request may have. Default 0: etcd's own, 1.5 MiB.
	MaxRequestBytes uint
	// InitialCluster names all members of a cluster and where their peers are: name=http://host:port,... For one whose
	// members are processes; StartCluster sets it itself. Default "": this server alone.
	InitialCluster string
	// ClientTLS, if given, serves clients over TLS only.
	ClientTLS *TLS
	// BcryptCost is what it costs to compare a password, as a power of two: 4 is the least. Default etcd's, 10.
	BcryptCost uint
	// TokenTTL is how long a token lives that is not used, once users are on. Whole seconds. Default etcd's, 5 min.
	TokenTTL time.Duration
	// OnCall, if given, is told the full name of the method of each call that a client makes, when it arrives. It is
	// for tests that count them, and called from many goroutines.
	OnCall func(method string)
}

// TLS names the PEM files of a server.
type TLS struct {
	Cert, Key string
	// ClientCA, if given, makes clients show a certificate that one of these authorities has signed. Its common name is
	// the user's, once users are on.
	ClientCA string
}

// Errors of Start that a caller can test for.
var (
	// ErrDataDirInUse says that another etcd runs on the data dir.
	ErrDataDirInUse = errors.New("data dir is in use by a running etcd")
	// errPortTaken says that a port picked as free was not, when it came to listening.
	errPortTaken = errors.New("picked port was taken meanwhile")
)

// Server is one running etcd. Its methods are safe for concurrent use.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	dataDir  string
	tempDir  string // to be removed; "" if the caller named one
	hangUp   context.CancelFunc

	closeOnce sync.Once
	closeErr  error
}

// portAttempts is how often ports are picked anew when another process was faster to listen on one.
const portAttempts = 10

// Start starts etcd and returns once it serves requests, or with an error when ctx ends before that. ctx does not
// bound the server's life: that is Close's task. The error says in one line what is wrong with the configuration,
// which address cannot be listened on, or that the data dir belongs to a running etcd (ErrDataDirInUse).
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

func start(ctx context.Context, cfg Config) (_ *Server, err error) {
	conf, addr, err := etcdConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{endpoint: addr.client.dial, dataDir: cfg.DataDir}
	abandoned := false // to a goroutine, which cleans up
	if cfg.DataDir == "" {
		if s.tempDir, err = os.MkdirTemp("", "drm-etcd-"); err != nil {
			return nil, fmt.Errorf("make a data dir: %w", err)
		}
		s.dataDir = s.tempDir
		defer func() {
			if err != nil && !abandoned {
				err = errors.Join(err, os.RemoveAll(s.tempDir))
			}
		}()
	} else if err := checkDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	conf.Dir = s.dataDir

	calls, hangUp := context.WithCancel(context.Background())
	s.hangUp = hangUp
	conf.GRPCAdditionalServerOptions = endCallsWith(calls, cfg.OnCall)

	// etcd's start takes no context, and may wait without end (for a lock, for peers), so it gets a goroutine, which
	// also cleans up after a start that nobody waits for any more.
	type outcome struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan outcome, 1)
	go func() {
		e, err := embed.StartEtcd(conf)
		started <- outcome{e, err}
	}()
	select {
	case o := <-started:
		if o.err != nil {
			hangUp()
			return nil, explainStart(o.err, addr)
		}
		s.etcd = o.etcd
	case <-ctx.Done():
		abandoned = true
		go func() {
			o := <-started
			hangUp()
			if o.err == nil {
				o.etcd.Close()
			}
			if s.tempDir != "" { // not before: an etcd that loses its folder ends the process
				_ = os.RemoveAll(s.tempDir)
			}
		}()
		return nil, fmt.Errorf("not started in time: %w", context.Cause(ctx))
	}

	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case <-ctx.Done():
		err = fmt.Errorf("not ready in time: %w", context.Cause(ctx))
	case err = <-s.etcd.Err():
		err = fmt.Errorf("failed while starting: %w", err)
	case <-s.etcd.Server.StopNotify():
		err = errors.New("stopped while starting")
	}
	hangUp()
	s.etcd.Close()
	return nil, err
}

// Endpoint is the host:port that clients reach the server at.
func (s *Server) Endpoint() string { return s.endpoint }

// DataDir is where the server keeps its state.
func (s *Server) DataDir() string { return s.dataDir }

// Err delivers the error that ended the server by itself. It is closed after Close.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close ends the calls of clients, stops the server and waits until it has; a temporary data dir is removed. Calls
// after the first wait for it and return the same.
func (s *Server) Close() error { return s.close(false) }

// close stops the server. If hard, it goes without a word, as one that is killed: a leader does not hand over first.
func (s *Server) close(hard bool) error {
	s.closeOnce.Do(func() {
		if hard {
			s.etcd.Server.HardStop()
		}
		s.hangUp()
		s.etcd.Close()
		if s.tempDir != "" {
			s.closeErr = os.RemoveAll(s.tempDir)
		}
	})
	return s.closeErr
}

// etcdConfig translates; it leaves Dir to be set.
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

// lastWords is a logger that only says why it ends the process.
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

// checkDataDir finds out whether a running etcd has the data dir. etcd itself would wait for it without end.
func checkDataDir(dir string) error {
	db := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("data dir: %w", err)
	}
	// The lock of the database is what etcd would wait for. Reading takes a shared one, so nothing is changed here.
	b, err := bbolt.Open(db, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
	if errors.Is(err, bbolt.ErrTimeout) { //nolint:staticcheck // the alias is what Open documents
		return fmt.Errorf("%w: %s", ErrDataDirInUse, dir)
	}
	if err != nil {
		return fmt.Errorf("data dir %s: %w", dir, err)
	}
	return b.Close()
}

// explainStart tells a port that was taken between picking it and listening on it from other errors.
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
