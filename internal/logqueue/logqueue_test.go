package logqueue_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm/internal/logqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; no test depends on its length.
const patience = 30 * time.Second

// sink is a log's sink that misbehaves at its first writes.
type sink struct {
	mu    sync.Mutex
	lines []string
	first func()
	seen  chan struct{} // closed at the first write
	once  sync.Once
}

func newSink(first func()) *sink { return &sink{first: first, seen: make(chan struct{})} }

func (s *sink) Write(b []byte) (int, error) {
	first := false
	s.once.Do(func() { first = true })
	if first {
		close(s.seen)
		if s.first != nil {
			s.first()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(b))
	return len(b), nil
}

func (s *sink) Sync() error { return nil }

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "")
}

func (s *sink) logger() *zap.Logger {
	return zap.New(
		zapcore.NewCore(
			zapcore.NewJSONEncoder(
				zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder},
			),
			s,
			zap.InfoLevel,
		),
	)
}

func TestWhatIsLoggedIsWrittenInOrder(t *testing.T) {
	s := newSink(nil)
	log, queue := logqueue.Wrap(s.logger())
	log = log.With(zap.String("app", "a"))
	log.Info("one", zap.Int("n", 1))
	log.Debug("below the level")
	if n, err := fmt.Fprintln(queue.Writer(s), "a plain line"); n != 13 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	log.Warn("two")
	if !queue.Close(patience) {
		t.Error("not written")
	}
	log.Info("after the end")
	want := `{"level":"info","msg":"one","app":"a","n":1}` + "\na plain line\n" +
		`{"level":"warn","msg":"two","app":"a"}` + "\n"
	if got := s.text(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// overfill logs more lines than there is room for, to a sink that blocks until free is called.
func overfill(more int) (s *sink, queue *logqueue.Queue, free func()) {
	blocked := make(chan struct{})
	s = newSink(func() { <-blocked })
	log, queue := logqueue.Wrap(s.logger())
	log.Info("the first")
	<-s.seen
	for range logqueue.Size + more { // this would hang if anything were waited for
		log.Info("line")
	}
	return s, queue, func() { close(blocked) }
}

func TestASinkThatBlocksHoldsNobodyUp(t *testing.T) {
	_, queue, free := overfill(100)
	defer free()
	if queue.Close(time.Millisecond) {
		t.Error("all was written, it says, though the sink is blocked")
	}
}

func TestWhatWasDroppedIsCountedOnceTheSinkWorks(t *testing.T) {
	s, queue, free := overfill(100)
	free()
	if !queue.Close(patience) {
		t.Error("not written")
	}
	text := s.text()
	if got := strings.Count(text, `"line"`); got != logqueue.Size {
		t.Errorf("%d lines, want %d", got, logqueue.Size)
	}
	if !strings.HasSuffix(text, `"dropped":100}`+"\n") {
		t.Errorf("the end says %s", text[len(text)-200:])
	}
}

func TestASinkThatPanicsOrEndsTheGoroutineLosesOneLine(t *testing.T) {
	for name, first := range map[string]func(){"panic": func() { panic("full") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			s := newSink(first)
			log, queue := logqueue.Wrap(s.logger())
			log.Info("one")
			log.Info("two")
			if !queue.Close(patience) {
				t.Error("not written")
			}
			if got, want := s.text(), `{"level":"info","msg":"two"}`+"\n"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
