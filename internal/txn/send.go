package txn

import (
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrTooLarge says that a transaction is larger than etcd, or its client, accepts in one request. Nothing was written.
var ErrTooLarge = errors.New("larger than etcd takes in one request")

// Write says what to do with one key.
type Write struct {
	Key    string
	Delete bool  // delete the key; otherwise its value is put
	Lease  int64 // the lease to put the key under; 0: none

	Any    bool  // there is no condition
	Expect int64 // the revision that the key must have, as Sender.By says; 0: it must not exist
	Mod    bool  // Expect is a mod revision, whatever Sender.By says

	// Vacant says that as far as the caller knows, no key of the group exists. Such writes of a group, if they follow
	// each other in the order of their keys and put keys that must not exist, are compared as one range, which halves
	// the transaction.
	Vacant bool
	Group  int
}

// Outcome is the outcome of a write that etcd has decided on.
type Outcome struct {
	Revision int64            // etcd's revision, as of the answer
	Applied  bool             // the write was done; otherwise its condition did not hold
	Found    *mvccpb.KeyValue // what is there instead, if the write was not applied; nil: no such key
}

// Bounds is what etcd takes in one transaction, as far as is known. *Limits implements it.
type Bounds interface {
	Ops() int
	Bytes() int
	TooMany(err error, refused *pb.TxnRequest) error
	TooLarge(bytes int)
}

// Sender carries out writes, each on its own condition, in as few transactions as etcd takes. It first tries them in a
// flat transaction, which does all or nothing and is the fastest kind in etcd. If a condition does not hold, it tries
// them in a nested transaction, which decides on each write by itself. A transaction that etcd refuses for its size is
// sent in parts. Nothing else is sent again, since the outcome of any other failure may be unknown.
//
// T is the caller's own item. Send calls the functions one at a time.
type Sender[T any] struct {
	Commit func(*pb.TxnRequest) (*pb.TxnResponse, error) // works as Committer.Commit does
	Limits Bounds

	Guards      Guards                   // must hold for anything to be written
	FreeDeletes bool                     // a transaction that only deletes compares no guards
	By          pb.Compare_CompareTarget // CREATE or MOD: which revision Write.Expect is compared with
	Inspect     int                      // up to how many writes a flat transaction also asks for what is there instead
	MaxOps      int                      // how many writes a transaction may have
	MaxBytes    int                      // its largest Size, unless it has one write; 0: the caller limits the size

	Write func(item *T) Write        // says what to do
	Value func(item *T) []byte       // the value to put; not called for a delete
	Size  func(item *T) int          // roughly what the write adds to a transaction, in bytes
	Done  func(item *T, got Outcome) // called for each write that etcd has decided on

	// Failed is called with the writes of a transaction that failed. The error is a *GuardError; an ErrTooLarge or a
	// *LimitError of a single write, which was not done; or an error of etcd or of the context. If Failed returns
	// false, nothing more is sent.
	Failed func(items []T, err error) bool
}

// Most is how many writes a transaction may have, as far as is known: each guard takes a comparison, and what is nested
// counts in addition to the outer level.
func (s *Sender[T]) Most() int {
	return min(s.MaxOps, max(1, s.Limits.Ops()-max(1, len(s.Guards))))
}

// Fit is how many of n writes go in one transaction of at most most writes and bytes bytes; at least one, if n is not
// 0. size returns the size of a write.
func Fit(n, most, bytes int, size func(i int) int) int {
	most = min(n, most)
	for i := range most {
		if bytes -= size(i); bytes < 0 && i > 0 {
			return i
		}
	}
	return most
}

// Send carries out the writes. It reports whether it has sent all of them, or whether Failed has stopped it.
func (s *Sender[T]) Send(items []T) bool { return s.inParts(items, s.flat) }

// inParts sends items, and sends them in halves if etcd does not take them as they are.
func (s *Sender[T]) inParts(items []T, send func([]T) (bool, error)) bool {
	for len(items) > 0 {
		part := items[:s.fit(items)]
		goOn, err := send(part)
		switch {
		case err == nil:
		case len(part) > 1 && s.divides(part, err):
			half := (len(part) + 1) / 2
			goOn = s.inParts(part[:half], send) && s.inParts(part[half:], send)
		default:
			goOn = s.Failed(part, err)
		}
		if !goOn {
			return false
		}
		items = items[len(part):]
	}
	return true
}

// fit is how many of the items go in one transaction.
func (s *Sender[T]) fit(items []T) int {
	most := min(len(items), s.Most())
	if s.MaxBytes == 0 {
		return most
	}
	return Fit(most, most, min(s.MaxBytes, s.Limits.Bytes()), func(i int) int { return s.Size(&items[i]) })
}

// divides says whether a part that failed may be accepted in smaller parts. It learns what etcd does not take.
func (s *Sender[T]) divides(part []T, err error) bool {
	if !Divisible(err) {
		return false
	}
	if !errors.Is(err, ErrTooLarge) {
		return true // commit has already learnt how many operations etcd takes
	}
	bytes := 0
	for i := range part {
		bytes += s.Size(&part[i])
	}
	s.Limits.TooLarge(bytes)
	return true
}

// flat sends items in one transaction that does all or nothing. If it did nothing, flat sends the items that are not
// known to be in conflict in a second transaction. goOn is what Send returns.
func (s *Sender[T]) flat(items []T) (goOn bool, err error) {
	guards := s.guardsOf(items)
	b := s.build(items, guards, true)
	req := &pb.TxnRequest{Compare: b.compares, Success: b.writes, Failure: guards.look(s.Inspect)}
	if len(items) <= s.Inspect {
		for _, write := range b.writes {
			req.Failure = append(req.Failure, Get(keyOf(write)))
		}
	}
	resp, err := s.commit(req)
	if isReceiveLimit(err) {
		// Writes are answered with next to nothing, so if the answer is too large, the transaction wrote nothing.
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return false, err
	}
	revision := resp.Header.GetRevision()
	if resp.Succeeded {
		for i := range items {
			s.Done(&items[i], Outcome{Revision: revision, Applied: true})
		}
		return true, nil
	}
	if err := guards.Check(resp); err != nil {
		return false, err
	}
	found := resp.Responses[len(guards):]
	if len(found) == 0 {
		return s.nested(items)
	}
	return s.unmet(items, found, revision), nil
}

// unmet reports the outcome of the items whose conditions did not hold, by what was found instead, and tries the other
// items.
func (s *Sender[T]) unmet(items []T, found []*pb.ResponseOp, revision int64) (goOn bool) {
	var rest []int
	for i := range items {
		kv := First(found[i])
		if w := s.Write(&items[i]); w.Any || s.revisionOf(&w, kv) == w.Expect {
			rest = append(rest, i)
		} else {
			s.Done(&items[i], Outcome{Revision: revision, Found: kv})
		}
	}
	again := make([]T, len(rest))
	for i, at := range rest {
		again[i] = items[at]
	}
	goOn = s.inParts(again, s.nested)
	for i, at := range rest {
		items[at] = again[i]
	}
	return goOn
}

// nested sends items in one transaction that decides on each of them by itself.
func (s *Sender[T]) nested(items []T) (goOn bool, err error) {
	guards := s.guardsOf(items)
	b := s.build(items, guards, false)
	req := &pb.TxnRequest{Compare: b.compares[:len(guards)], Success: b.writes, Failure: guards.Look()}
	conditions := b.compares[len(guards):]
	for i := range items {
		one := &pb.TxnRequest{Success: []*pb.RequestOp{b.writes[i]}, Failure: []*pb.RequestOp{Get(keyOf(b.writes[i]))}}
		if !s.Write(&items[i]).Any {
			one.Compare, conditions = conditions[:1:1], conditions[1:]
		}
		req.Success[i] = Nest(one)
	}
	resp, err := s.commit(req)
	if err != nil {
		return false, err
	}
	if !resp.Succeeded { // only the guards decide that
		return false, guards.Check(resp)
	}
	for i := range items {
		one := resp.Responses[i].GetResponseTxn()
		got := Outcome{Revision: resp.Header.GetRevision(), Applied: one.Succeeded}
		if !one.Succeeded {
			got.Found = First(one.Responses[0])
		}
		s.Done(&items[i], got)
	}
	return true, nil
}

// commit sends a transaction, and learns from an answer that says it is too large.
func (s *Sender[T]) commit(req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := s.Commit(req)
	if err != nil {
		err = s.Limits.TooMany(err, req)
	}
	if isRequestLimit(err) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return resp, err
}

// guardsOf returns the guards of a transaction with these items.
func (s *Sender[T]) guardsOf(items []T) Guards {
	if !s.FreeDeletes {
		return s.Guards
	}
	for i := range items {
		if !s.Write(&items[i]).Delete {
			return s.Guards
		}
	}
	return nil
}

// built holds the parts of a transaction: its comparisons, first those of the guards, and each item's write.
type built struct {
	compares []*pb.Compare
	writes   []*pb.RequestOp
}

// build makes the parts of a transaction. With ranges it uses what Write.Vacant says.
func (s *Sender[T]) build(items []T, guards Guards, ranges bool) built {
	spans := Spans(len(items), func(i int) bool { return ranges && together(s.Write(&items[i-1]), s.Write(&items[i])) })
	b := NewBatch(s.measure(items, guards, spans))
	all := built{
		compares: make([]*pb.Compare, 0, len(guards)+len(spans)),
		writes:   make([]*pb.RequestOp, len(items)),
	}
	for _, g := range guards {
		all.compares = append(all.compares, b.Created(b.Key(g.Key), g.Created))
	}
	for _, span := range spans {
		for i := span.From; i < span.To; i++ {
			w := s.Write(&items[i])
			key := b.Key(w.Key)
			switch {
			case w.Any:
			case span.To-span.From > 1 && i == span.From:
				all.compares = append(all.compares, b.Absent(key, s.Write(&items[span.To-1]).Key))
			case span.To-span.From > 1: // the range covers it
			case s.comparesMod(&w):
				all.compares = append(all.compares, b.Modified(key, w.Expect))
			default:
				all.compares = append(all.compares, b.Created(key, w.Expect))
			}
			if w.Delete {
				all.writes[i] = b.Delete(key)
			} else {
				all.writes[i] = b.Put(key, s.Value(&items[i]), w.Lease)
			}
		}
	}
	return all
}

// measure returns how much memory the parts of a transaction take.
func (s *Sender[T]) measure(items []T, guards Guards, spans []Span) Size {
	size := Size{Creates: len(guards)}
	for _, g := range guards {
		size.KeyBytes += len(g.Key)
	}
	for i := range items {
		w := s.Write(&items[i])
		size.KeyBytes += len(w.Key)
		if w.Delete {
			size.Deletes++
		} else {
			size.Puts++
		}
	}
	for _, span := range spans {
		last := s.Write(&items[span.To-1])
		switch {
		case span.To-span.From > 1:
			size.Creates++
			size.KeyBytes += EndBytes(last.Key)
		case s.comparesMod(&last):
			size.Mods++
		default:
			size.Creates++
		}
	}
	return size
}

// keyOf returns the key that an operation puts or deletes.
func keyOf(write *pb.RequestOp) []byte {
	if put := write.GetRequestPut(); put != nil {
		return put.Key
	}
	return write.GetRequestDeleteRange().GetKey()
}

// together says whether two neighbouring writes are compared as one range.
func together(a, b Write) bool {
	return a.Vacant && b.Vacant && !a.Delete && !b.Delete && !a.Any && !b.Any && !a.Mod && !b.Mod &&
		a.Expect == 0 && b.Expect == 0 && a.Group == b.Group && a.Key < b.Key
}

// comparesMod says whether a write's condition is about the mod revision.
func (s *Sender[T]) comparesMod(w *Write) bool { return w.Mod || s.By == pb.Compare_MOD }

func (s *Sender[T]) revisionOf(w *Write, kv *mvccpb.KeyValue) int64 {
	if s.comparesMod(w) {
		return kv.GetModRevision()
	}
	return kv.GetCreateRevision()
}

// First returns the key-value pair that a read of one key found, or nil.
func First(read *pb.ResponseOp) *mvccpb.KeyValue {
	if kvs := Found(read); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// Divisible says whether a transaction that was refused may be accepted in parts.
func Divisible(err error) bool {
	var limit *LimitError
	return errors.Is(err, ErrTooLarge) || errors.As(err, &limit)
}

// IsSizeLimit says whether etcd, or gRPC on the way there or back, refused a message for its size. etcd uses the same
// code for a full disk quota and for too many requests, for which the size is not to blame.
func IsSizeLimit(err error) bool { return isRequestLimit(err) || isReceiveLimit(err) }

// isRequestLimit says whether etcd did not take a request for its size, or the client did not send it.
func isRequestLimit(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) || isSendLimit(err)
}

// isReceiveLimit recognises gRPC's limit on the size of a received message, at etcd or at the client, by its text,
// since it has no error value. The limit is above etcd's own, unless one of them was configured.
func isReceiveLimit(err error) bool { return isMessageLimit(err, "received message larger than max") }

// isSendLimit recognises gRPC's limit on the size of a message that the client sends.
func isSendLimit(err error) bool {
	return isMessageLimit(err, "trying to send message larger than max")
}

func isMessageLimit(err error, text string) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), text)
}
