package handler

// The protocol between an agent and one of its guards, each of which keeps many processes. Each side sends JSON values,
// one after the other: the agent orders over the guard's standard input, the guard reports over its file descriptor 3.
//
// The end of the orders (the agent closed its end, or died) tells the guard to kill everything.

// order is what an agent sends to a guard. The guard carries orders out one after the other.
type order struct {
	// Seq rises by one with each order.
	Seq int64 `json:"seq"`
	// Start starts a process.
	Start *startOrder `json:"start,omitempty"`
	// Renew says until when processes may live.
	Renew []renewal `json:"renew,omitempty"`
	// Terminate asks for SIGTERM to this process now, and SIGKILL after GraceMS milliseconds.
	Terminate int   `json:"terminate,omitempty"`
	GraceMS   int64 `json:"grace_ms,omitempty"`
	// Kill asks for SIGKILL to this process.
	Kill int `json:"kill,omitempty"`

	outlet *outlet // the agent's side of Start.Outputs
	output []int   // the guard's
	err    error   // why it has not got them
}

// startOrder is about one process.
type startOrder struct {
	// ID is what the process is called from then on: a positive number, which the guard has not been told before.
	ID int `json:"id"`
	// Input is what the process reads from its standard input.
	Input []byte `json:"input"`
	// Outputs is how many files have been sent over passFD for what it prints: none, so that it prints where the guard
	// does; one; or one for its standard output and one for its standard error.
	Outputs int `json:"outputs,omitempty"`
	// Env is what it has in its environment besides the guard's.
	Env []string `json:"env"`
	// Until is as in renewal.
	Until int64 `json:"until"`
}

// renewal says when processes must be dead unless a later one says otherwise, in milliseconds of clockNow. It is a
// point in time and not a span, so that an order which is late does not give the processes more time. One message
// renews them all.
type renewal struct {
	Until int64 `json:"until"`
	IDs   []int `json:"ids"`
}

// report is what a guard sends to its agent. Ack stands alone; the others are about the process ID. A process has one
// report with PID, later one with Ended, and none after it; or a single one with Error.
type report struct {
	// Ack says that all orders up to this one have been carried out. A start has when it is under way, a kill when the
	// signal was sent.
	Ack int64 `json:"ack,omitempty"`

	ID      int    `json:"id,omitempty"`
	PID     int    `json:"pid,omitempty"`     // it runs, as the leader of a process group with this id
	Error   string `json:"error,omitempty"`   // it could not be started, for this reason
	Ended   string `json:"ended,omitempty"`   // nothing is left of it: its exit status, and why it was killed if it was
	Stopped string `json:"stopped,omitempty"` // it runs no more though it has not ended (SIGSTOP), in words
	Resumed bool   `json:"resumed,omitempty"` // it goes on
}

// reportFD is the file descriptor of the guard's reports: the first one of exec.Cmd's ExtraFiles.
const reportFD = 3

// passFD is the socket over which the guard gets the files of its processes: the second one, if there is one.
const passFD = 4

// claimEnded is why a process is not started whose claim has ended.
const claimEnded = "the claim ended before the process was started"
