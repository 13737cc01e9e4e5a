package handler

// The protocol between an agent and one of its guards. A guard keeps many processes. Each side sends a stream of JSON
// values: the agent sends orders to the guard's standard input, and the guard sends reports over its file descriptor 3.
//
// The end of the orders means that the agent closed its end or died; the guard then kills everything and ends.

// order is one message of an agent to a guard. The guard carries out the orders one after the other.
type order struct {
	// Seq is the order's number, one more than that of the order before.
	Seq int64 `json:"seq"`
	// Start starts a process.
	Start *startOrder `json:"start,omitempty"`
	// Renew sets new deadlines for processes.
	Renew []renewal `json:"renew,omitempty"`
	// Terminate is the ID of a process that gets SIGTERM now, and SIGKILL after GraceMS milliseconds. If it is stopped,
	// it goes on, so that it can end in order.
	Terminate int   `json:"terminate,omitempty"`
	GraceMS   int64 `json:"grace_ms,omitempty"`
	// Kill is the ID of a process that gets SIGKILL now.
	Kill int `json:"kill,omitempty"`

	outlet *outlet // in the agent: where the new process prints
	output []int   // in the guard: the files that the new process prints to; see Start.Outputs
	err    error   // in the guard: why it could not receive these files
}

// startOrder describes a new process.
type startOrder struct {
	// ID names the process in all later orders and reports. It is positive, and new to the guard.
	ID int `json:"id"`
	// Args are the program and its arguments, in place of those that the guard was started with.
	Args []string `json:"args,omitempty"`
	// Input is the whole standard input of the process.
	Input []byte `json:"input"`
	// Outputs is how many files the agent has sent over passFD for the process to print to: none, if it prints where
	// the guard does; one; or one for its standard output and one for its standard error.
	Outputs int `json:"outputs,omitempty"`
	// Env is added to the guard's environment, as KEY=VALUE.
	Env []string `json:"env"`
	// Until is as in renewal.
	Until int64 `json:"until"`
}

// renewal sets the deadline at which the guard kills processes, in milliseconds of clockNow. A later renewal replaces
// it. It is a point in time and not a span, so that an order that arrives late gives the processes no more time.
type renewal struct {
	Until int64 `json:"until"`
	IDs   []int `json:"ids"`
}

// report is one message of a guard to its agent. A report has either Ack alone, or ID and one of the fields below it.
// About a process that starts there is one report with PID, and a last one with Ended; about a process that does not
// start there is a single one, with Error.
type report struct {
	// Ack is the number of the last order that was carried out. A start counts as carried out when it is under way, a
	// kill when the signal was sent.
	Ack int64 `json:"ack,omitempty"`

	ID      int    `json:"id,omitempty"`
	PID     int    `json:"pid,omitempty"`     // the process runs, with this process id, and leads a group of its own
	Error   string `json:"error,omitempty"`   // why the process could not be started
	Ended   string `json:"ended,omitempty"`   // nothing is left of it; its exit status, and why it was killed if it was
	OK      bool   `json:"ok,omitempty"`      // besides Ended: it ended by itself, with exit status 0
	Killed  bool   `json:"killed,omitempty"`  // besides Ended: the guard killed it
	Stopped string `json:"stopped,omitempty"` // a signal has stopped the process (SIGSTOP); when, and which signal
	Resumed bool   `json:"resumed,omitempty"` // the stopped process goes on
}

// reportFD is the guard's file descriptor for its reports: the first of exec.Cmd's ExtraFiles.
const reportFD = 3

// passFD is the guard's socket for the files that its processes print to: the second of exec.Cmd's ExtraFiles. It is
// there only if processes print to files that the agent passes.
const passFD = 4

// claimEnded is the error of a process that was not started because its claim had ended.
const claimEnded = "the claim ended before the process was started"
