package lease

import "context"

// Stream lets tests stand in for a gRPC stream of keepalives.
type Stream = stream

// PerStream is the most keepalives that may be in progress on one stream.
const PerStream = perStream

// MostStreams is the most streams that there are.
const MostStreams = mostStreams

// NewTestRenewer makes a Renewer that gets its streams from a test.
func NewTestRenewer(open func(context.Context) (Stream, error)) *Renewer { return newRenewer(open) }

// InFlight is how many keepalives may be sent on one stream without an answer.
const InFlight = inFlight
