package reshard

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ErrSame says that the app has that number of shards already.
var ErrSame = errors.New("the app has that many shards already")

// InUseError says which members are live.
type InUseError struct{ Members []string }

func (e *InUseError) Error() string {
	return "members are live, and have to be stopped first: " + few(e.Members)
}

// ClaimsError says that members which have ended still have claims, or are awaited.
type ClaimsError struct {
	Claims       int
	Reservations []string      // the members that are awaited
	For          time.Duration // how long the longest of their leases lives on at most
	Endless      string        // a key without a lease, which never ends by itself; empty: there is none
}

func (e *ClaimsError) Error() string {
	var what []string
	if e.Claims > 0 {
		what = append(what, fmt.Sprintf("%d claims of members that have ended", e.Claims))
	}
	if len(e.Reservations) > 0 {
		what = append(what, "reservations of members that have stopped ("+few(e.Reservations)+")")
	}
	text := strings.Join(what, " and ") + " are left in etcd"
	if e.Endless != "" {
		return fmt.Sprintf("%s, and %q is on no lease, so that it never ends: delete it if no member has it",
			text, e.Endless)
	}
	return fmt.Sprintf("%s, for up to %v more", text, e.For)
}

// StrayError says that keys lie in another shard than that of their id, so that nobody knows what they mean.
type StrayError struct {
	Keys  int
	First string // one of them
}

func (e *StrayError) Error() string {
	return fmt.Sprintf("%d keys lie in another shard than that of their id, and might count afterwards; "+
		"delete them first (`drmctl verify` lists them as wrong-shard), such as %q", e.Keys, e.First)
}

func (e *StrayError) add(kv *mvccpb.KeyValue) {
	if e.Keys++; e.Keys == 1 {
		e.First = string(kv.Key)
	}
}

// DiffersError says that etcd does not have what it had before anything was moved.
type DiffersError struct{ Before, After string }

func (e *DiffersError) Error() string {
	return fmt.Sprintf("somebody has written to the app meanwhile: there was %s, and there is %s; "+
		"if that is as it should be, run it again with --unverified", e.Before, e.After)
}

// few joins the first of some names, and counts the others.
func few(all []string) string {
	const most = 5
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
