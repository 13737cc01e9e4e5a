package warnings

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/record"
)

// Overdue says whether the source has not answered for so long that more than one poll must have failed. It is false
// where nobody knows how often the source is polled. now is by any clock that is about right.
func Overdue(s record.Source, now time.Time) bool {
	if s.PollMS == 0 || s.LastAttempt.IsZero() || s.LeftAlone(now) > 0 {
		return false
	}
	last := s.LastSuccess
	if last.IsZero() {
		last = s.LastAttempt
	}
	if s.NotBefore.After(last) {
		last = s.NotBefore
	}
	return now.Sub(last) > missedPolls*time.Duration(s.PollMS)*time.Millisecond+pollSlack
}

// source warns of what is wrong with the source.
func (l *list) source() {
	s := l.Status.Source
	last := "it has never answered"
	if !s.LastSuccess.IsZero() {
		last = "it last answered at " + s.LastSuccess.UTC().Format(time.RFC3339)
	}
	if s.Error != "" {
		l.add(SourceFails, nil, s.LastSuccess, "drmctl source fetch --wait", "the source fails: %s; %s", s.Error, last)
	}
	if Overdue(s, l.Now) {
		l.add(SourceOld, nil, s.LastSuccess, "drmctl source fetch --wait",
			"the source should be asked every %v, and %s", time.Duration(s.PollMS)*time.Millisecond, last)
	}
	if s.Held > 0 {
		until := "until drmctl source accept"
		if !s.HeldRemovals.Until.IsZero() {
			until = "until an answer after " + s.HeldRemovals.Until.UTC().Format(time.RFC3339) + " confirms them"
		}
		l.add(Held, head(s.HeldRemovals.IDs), s.HeldRemovals.Since, "drmctl source accept, if the source is right",
			"%s held, since the source may be mistaken, %s: %s", is(s.Held, "removal"), until,
			quoted(head(s.HeldRemovals.IDs), s.Held))
	}
	if bad := s.Bad - s.TooLarge; bad > 0 {
		l.add(BadItems, nil, time.Time{}, "mend the source",
			"%s of the source's last answer could not be taken: %s", count(bad, "item"), items(s, bad))
	}
	if s.TooLarge > 0 {
		l.add(TooLarge, head(s.Rejected), time.Time{}, "make them smaller, or raise etcd's --max-request-bytes",
			"%s of the source too large for etcd: %s", is(s.TooLarge, "resource"),
			quoted(head(s.Rejected), s.TooLarge))
	}
}

// head returns the first few of some ids.
func head(all []string) []string { return all[:min(len(all), most)] }

// items names the first bad items.
func items(s record.Source, n int) string {
	var words []string
	for _, b := range s.BadItems {
		if !b.TooLarge && len(words) < most {
			words = append(words, fmt.Sprintf("item %d: %s", b.Index, b.Error))
		}
	}
	return joined(words, n)
}
