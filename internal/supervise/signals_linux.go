package supervise

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals makes this process receive signals for its command. stop ends that.
//
// Package signal does not tell who has sent a signal, so if this program has called WatchKeys, that takes the signals
// of the terminal's keys. Where it has not, or where another thread takes the signal before the one that waits for it
// has woken up (one that looks for signals at that moment, since it has just begun, or has handled another signal), a
// signal counts as one of another process. It is passed on then, which is the lesser evil: a command that gets it twice
// has got it.
func Signals(signals ...os.Signal) (got <-chan Signal, stop func()) {
	raw, all := make(chan os.Signal, 64), make(chan Signal, 64)
	signal.Notify(raw, signals...)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-raw:
				select {
				case all <- Signal{Signal: sig}:
				case <-over:
					return
				}
			case <-over:
				return
			}
		}
	}()
	var ofKeys []os.Signal
	for _, sig := range signals {
		if sig == syscall.SIGINT || sig == syscall.SIGQUIT {
			ofKeys = append(ofKeys, sig)
		}
	}
	select {
	case keys <- watched{ofKeys, all}:
	default: // there was another call
	}
	return all, func() {
		signal.Stop(raw)
		close(over)
	}
}

// WatchKeys receives the signals that a key can send, for the first call of Signals, and tells which of them a key has
// sent. It never returns. It must have the first thread of the process: an init function locks the main goroutine to
// that one.
//
// The kernel offers a signal to the first thread before all others, and a signal that is waited for tells who sent it.
// So this needs neither a handler of its own nor signals that are blocked in all threads, which Go does not offer.
func WatchKeys() {
	w := <-keys
	var set unix.Sigset_t
	for _, sig := range w.signals {
		bit := uint(sig.(syscall.Signal)) - 1
		word := uint(unsafe.Sizeof(set.Val[0])) * 8
		set.Val[bit/word] |= 1 << (bit % word)
	}
	// While this thread handles something else, another one receives the signal as ever.
	if len(w.signals) == 0 || unix.Gettid() != os.Getpid() || unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil) != nil {
		select {}
	}
	for {
		sig, key, err := waitForSignal(&set)
		switch {
		case err == nil:
			w.got <- Signal{Signal: sig, Key: key}
		case !errors.Is(err, unix.EINTR): // a sandbox, say, does not let us wait
			_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil) // so that package signal gets them
			select {}
		}
	}
}

// waitForSignal waits for one of some signals. fromKernel says that no process has sent it.
func waitForSignal(set *unix.Sigset_t) (sig syscall.Signal, fromKernel bool, err error) {
	var info unix.Siginfo
	const sigsetSize = 8 // what the kernel takes, and not the size of Sigset_t
	n, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(set)),
		uintptr(unsafe.Pointer(&info)), 0, sigsetSize, 0, 0)
	if errno != 0 { // EINTR: another signal has come
		return 0, false, errno
	}
	return syscall.Signal(n), info.Code > 0, nil
}
