// Package record has the values of the keys in which a coordinator records the outcome of its fetches, and in which an
// operator gives orders about the source. It decides nothing: package source writes the record, and package picture
// reads it.
package record

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/deed"
)

// MostLeftAlone is the longest time that a source may ask to be left alone. A longer time counts as this one.
const MostLeftAlone = 24 * time.Hour

// Source is the value of the source key: the outcome of the last fetches.
type Source struct {
	LastSuccess time.Time `json:"last_success,omitzero"` // zero: no fetch has succeeded yet
	LastAttempt time.Time `json:"last_attempt,omitzero"` // zero: nobody has asked the source yet
	Resources   int       `json:"resources"`
	Added       int       `json:"added"`
	Changed     int       `json:"changed"`
	Removed     int       `json:"removed"`
	Held        int       `json:"held"`                // removals that wait for a confirmation
	TooLarge    int       `json:"too_large"`           // resources that etcd did not take
	Rejected    []string  `json:"rejected,omitempty"`  // the ids of the first of those
	Error       string    `json:"error"`               // the error of the last attempt; empty if it succeeded
	NotBefore   time.Time `json:"not_before,omitzero"` // until when the source asked to be left alone
	PollMS      int64     `json:"poll_ms,omitempty"`   // the pause between polls; 0: nothing polls, or it is not known

	Bad      int       `json:"bad"`                 // items of the last answer that are not resources, or are too large
	BadItems []BadItem `json:"bad_items,omitempty"` // the first of those

	LastChange   Change       `json:"last_change,omitzero"`
	HeldRemovals HeldRemovals `json:"held_removals,omitzero"`

	Attempt  int64    `json:"attempt_revision,omitempty"` // the revision at which the last attempt began
	Accepted Accepted `json:"accepted,omitzero"`

	catalogue.Vouch
}

// BadItem is an item of the source's last answer that could not be used.
type BadItem struct {
	Index    int    `json:"index"`               // its place in the answer, from 0; -1: unknown
	ID       string `json:"id"`                  // empty if it has no id that a resource could have
	Error    string `json:"error"`               // what is wrong with it
	TooLarge bool   `json:"too_large,omitempty"` // its id is also in Rejected
}

// Change is what the last answer that changed anything did. It is kept until another answer changes something, since
// the other counts are about one fetch only, and the next poll usually changes nothing.
type Change struct {
	At      time.Time `json:"at"`
	Added   int       `json:"added"`
	Changed int       `json:"changed"`
	Removed int       `json:"removed"`
}

// HeldRemovals describes the removals that wait for a confirmation.
type HeldRemovals struct {
	Digest string    `json:"digest"`         // identifies the set of their ids
	IDs    []string  `json:"ids,omitempty"`  // the first of their ids
	Since  time.Time `json:"since"`          // since when removals have been held
	Joined time.Time `json:"joined"`         // when the last one was added; a successor counts from there
	Until  time.Time `json:"until,omitzero"` // answers asked for after this confirm all of them; zero: none does
}

// Accepted is the outcome of the last order to make the held removals.
type Accepted struct {
	Revision int64  `json:"revision"` // the revision of the order
	Removed  int    `json:"removed"`
	Error    string `json:"error,omitempty"` // why it was not carried out
}

// LeftAlone is how long the source still wants to be left alone. now may be from another clock than the record. The
// result is never longer than the source asked for, nor than MostLeftAlone.
func (r *Source) LeftAlone(now time.Time) time.Duration {
	if r.NotBefore.IsZero() {
		return 0
	}
	most := MostLeftAlone
	if asked := r.NotBefore.Sub(r.LastAttempt); asked > 0 {
		most = min(most, asked)
	}
	return max(0, min(r.NotBefore.Sub(now), most))
}

// DecodeSource reads the value of the source key. A value that it cannot read counts as no record, since the next fetch
// writes another one.
func DecodeSource(value []byte) (Source, error) {
	var r Source
	if err := json.Unmarshal(value, &r); err != nil {
		return Source{}, err
	}
	if c := r.LastChange; min(r.Resources, r.Held, r.TooLarge, r.Bad, c.Added, c.Changed, c.Removed,
		r.Accepted.Removed) < 0 || r.PollMS < 0 {
		return Source{}, errors.New("a negative count")
	}
	if err := r.Check(); err != nil {
		return Source{}, err
	}
	return r, nil
}

// AcceptOrder is the value of the key in which an operator orders that held removals are made.
type AcceptOrder struct {
	Digest string `json:"digest"` // identifies what was held when the operator looked

	deed.Deed // who has ordered it
}

// DecodeAccept reads the value of an AcceptOrder.
func DecodeAccept(value []byte) (AcceptOrder, error) {
	var a AcceptOrder
	if err := json.Unmarshal(value, &a); err != nil {
		return AcceptOrder{}, err
	}
	if a.Digest == "" {
		return AcceptOrder{}, errors.New("it names no set of removals")
	}
	return a, nil
}
