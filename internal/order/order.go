// Package order gives the orders of an operator: that a member hold nothing, that the source be asked, that removals
// which are held be made, that the app have no source any more. It decides whether an order may be given, and tells
// when it has been carried out. The members carry it out: packages membership and source say how.
package order

import (
	"errors"
	"fmt"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Errors that a caller can test for with errors.Is.
var (
	// ErrLastMember says that nobody would be left who takes any resource, so that all drains would be ignored, or only
	// members that are not ready.
	ErrLastMember = errors.New("every other member is drained or not ready, or there is none")
	// ErrNoSource says that no live member has a source, so that nobody would carry out an order about it.
	ErrNoSource = errors.New("no live member has a source")
	// ErrNotAccepted says that the coordinator refused to make the removals which were held: others are held by now.
	ErrNotAccepted = errors.New("not accepted")
)

// SourceInUseError says which live member has a source that was to be dropped.
type SourceInUseError struct{ Member string }

func (e *SourceInUseError) Error() string {
	return fmt.Sprintf(
		"member %q has a source, and would bring back what it has: stop the members that do, or start them without",
		e.Member,
	)
}

// Desk gives orders in one app that exists.
type Desk struct {
	// Reader looks at the app. Orders are written with its client and within its timeout.
	Reader *picture.Reader
	// Created is the revision at which the app's config key was created. An order about the source is not given to the
	// coordinator of an app that was deleted and made anew.
	Created int64
}
