package supervise

import "os"

// Signal is a signal that is meant for the command.
type Signal struct {
	os.Signal
	// Key says that a key of the terminal has sent it (Ctrl-C, Ctrl-\). The terminal sends it to each process of the
	// group in its foreground, and not to this one alone.
	Key bool
}

// keys are where WatchKeys is told what to look for, which it may be before it is called.
var keys = make(chan watched, 1)

// watched is what WatchKeys looks for.
type watched struct {
	signals []os.Signal
	got     chan<- Signal
}
