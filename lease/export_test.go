package lease

import "context"

// Stream is what a Renewer needs of a gRPC stream.
type Stream = stream

// PerStream is how many keepalives are under way on one stream at most.
const PerStream = perStream

// NewTestRenewer is a Renewer whose streams are a test's.
func NewTestRenewer(open func(context.Context) (Stream, error)) *Renewer { return newRenewer(open) }
