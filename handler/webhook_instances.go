package handler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/lives"
)

const (
	// InstanceHeader is the HTTP header in which a receiver may say which instance of it answers: any string that it
	// makes anew each time it starts. A Webhook that has seen it once asks for it from then on (drm.Restartable).
	InstanceHeader = "DRM-Instance"

	// instanceBytes is how long a name may be. A longer one, and one with other than printable ASCII characters, is
	// replaced by its hash.
	instanceBytes = 256
	// recentAnswer is for how long after an answer the same instance is taken to answer still. No process ends, and has
	// its successor listen in its place, in so little time; while much is terminated, hardly any question is due.
	recentAnswer = 10 * time.Millisecond
	// manyResets is how many questions in a row must have lost a new connection until nobody is there. One alone may be
	// the receiver's way of refusing the question.
	manyResets = 2
)

// instances tells apart the instances of the receiver that have answered, one after the other. It is safe for
// concurrent use.
type instances struct {
	mu     sync.Mutex
	lives  lives.Lives // has the instances, by what they call themselves
	name   string      // what DRM is told about the current instance
	noName bool        // the current instance has not named itself yet

	heard  time.Time // when the current instance last answered by its name
	asOf   time.Time // when the latest of these requests was sent
	failed time.Time // when a request last got no answer
	gone   time.Time // when nobody was there that could answer; zero if the current instance has answered since then
	resets int       // how many questions in a row have lost a new connection
	mute   bool      // the last question was answered without a name
	silent bool      // the last question was not answered in time

	returns int // how many times the receiver came back without naming itself

	// unsettled has the resources whose last handle or update has an unknown outcome, each with the number of the
	// instance that was the current one then. It, or the one after it, may have the resource.
	unsettled map[key]int32

	app, member string // of the last request whose answer had a name
}

// instanceOf returns the name of the instance that has sent an answer; "" if it says none.
func instanceOf(header http.Header) string {
	name := header.Get(InstanceHeader)
	odd := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' })
	if len(name) > instanceBytes || odd {
		sum := sha256.Sum256([]byte(name))
		return "sha256 " + hex.EncodeToString(sum[:])
	}
	return name
}

// mayBeAProxys says whether a proxy in front of the receiver may have given an answer with this status, because the
// receiver is not there.
func mayBeAProxys(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable ||
		status == http.StatusGatewayTimeout
}

// isRefused says whether nobody listens where a request was sent to.
func isRefused(err error) bool {
	const onWindows = syscall.Errno(10061) // WSAECONNREFUSED; syscall.ECONNREFUSED is another number there
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, onWindows)
}

// current returns the number of the current instance; 0 if none was ever named.
func (in *instances) current() int32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.lives.Number()
}

// told returns what DRM is told about the current instance; "" if none was ever named.
func (in *instances) told() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.name
}

// note takes note of what became of a request, and returns what DRM is told about the instance that has answered; "" if
// that is not known.
func (in *instances) note(a *attempt, of key) string {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case a.unsent:
		return ""
	case a.status == 0:
		in.missed(a)
		return ""
	}
	name := in.answered(a)
	if a.instance != "" {
		in.app, in.member = of.app, of.member
	}
	return name
}

// noteQuestion is note for a question which instance answers.
func (in *instances) noteQuestion(a *attempt, late bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a.unsent {
		return
	}
	in.silent = a.status == 0 && late
	if a.status == 0 {
		in.missed(a)
		if in.resets++; late || a.refused || a.kept.Load() || !a.sent.Load() {
			in.resets = 0
		}
		if in.resets >= manyResets {
			in.gone = time.Now()
		}
		return
	}
	in.resets = 0
	in.mute = a.instance == "" && !mayBeAProxys(a.status)
	in.answered(a)
}

// missed takes note of a request that got no answer. The caller holds mu.
func (in *instances) missed(a *attempt) {
	in.failed = time.Now()
	if a.refused {
		in.gone = in.failed
	}
}

// answered takes note of an answer, and returns what DRM is told about the instance that has given it. The caller holds
// mu.
func (in *instances) answered(a *attempt) string {
	if a.instance == "" {
		if in.lives.Number() == 0 || mayBeAProxys(a.status) || in.gone.IsZero() || a.began.Before(in.gone) {
			return ""
		}
		// Nobody was there, and somebody is again.
		in.returns++
		in.begin(fmt.Sprintf("%s returned %d", in.lives.Name(), in.returns))
		in.noName = true
	} else if in.lives.Number() == 0 || in.noName || a.instance != in.lives.Name() {
		if in.lives.WasBefore(a.began) {
			return a.instance // an earlier instance was asked before the current one was known, and answers late
		}
		if !in.noName {
			in.begin(a.instance)
		}
		in.noName = false
		in.lives.Call(a.instance, time.Now())
	}
	if !a.began.Before(in.gone) {
		in.gone = time.Time{}
	}
	in.heard = time.Now()
	if a.began.After(in.asOf) {
		in.asOf = a.began
	}
	return in.name
}

// begin makes another instance the current one. The caller holds mu.
func (in *instances) begin(name string) {
	for k, number := range in.unsettled {
		if number < in.lives.Number() { // what may have had it is gone
			delete(in.unsettled, k)
		}
	}
	in.lives.Begin(time.Now())
	in.name = name
}

// settle takes note of the outcome of a handle, update or terminate.
func (in *instances) settle(of key, known bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.lives.Number() == 0: // a terminate is sent whatever happens
	case known:
		delete(in.unsettled, of)
	default:
		if in.unsettled == nil {
			in.unsettled = make(map[key]int32)
		}
		in.unsettled[of] = in.lives.Number()
	}
}

// doubtful says whether another instance may have taken the place of the current one, so that a question is due before
// a terminate is sent.
func (in *instances) doubtful() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.lives.Number() == 0 || in.silent:
		return false
	case !in.failed.Before(in.asOf): // a request got no answer, and none that was sent later did
		return true
	default:
		return !in.mute && time.Since(in.heard) > recentAnswer
	}
}

// replaced says whether no instance has a resource any more that was handled while an instance was the current one, and
// what DRM is told about the one that is there now. If none had been named by then (0), nobody knows.
func (in *instances) replaced(number int32, of key) (name string, yes bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if number == 0 || in.lives.Number() == number || in.lives.TakeTurns(time.Now()) {
		return "", false
	}
	if n, is := in.unsettled[of]; is && n >= number {
		return "", false // the current one may have been given it
	}
	return in.name, true
}

// asks returns the app and member that a question names: those of the last request whose answer had a name.
func (in *instances) asks() (app, member string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.app, in.member
}
