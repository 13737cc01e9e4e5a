package handler

// The protocol between an agent and the guard of one process. Each side sends JSON values, one after the other: the
// agent orders over the guard's standard input, the guard reports over its file descriptor 3.
//
// The end of the orders (the agent closed its end, or died) tells the guard to kill the process group.

// order is what an agent sends to a guard. The first one starts the process.
type order struct {
	// Input is what the process reads from its standard input. First order only.
	Input []byte `json:"input,omitempty"`
	// Until is when the process must be dead unless a later order says otherwise, in milliseconds of clockNow. It is a
	// point in time and not a span, so that an order which is late does not give the process more time.
	Until int64 `json:"until,omitempty"`
	// TerminateMS asks for SIGTERM now, and SIGKILL after so many milliseconds.
	TerminateMS int64 `json:"terminate_ms,omitempty"`
}

// report is what a guard sends to its agent: one when the process was started or could not be, and one when nothing
// is left of it.
type report struct {
	PID   int    `json:"pid,omitempty"`   // it runs, as the leader of a process group with this id
	Error string `json:"error,omitempty"` // it could not be started, for this reason
	Ended string `json:"ended,omitempty"` // it ended: its exit status, and why it was killed if it was
}

// reportFD is the file descriptor of the guard's reports: the first one of exec.Cmd's ExtraFiles.
const reportFD = 3
