package main

import (
	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// toneOfWord has what the words mean that tables show as states, results and kinds: a colour helps to find what is
// wrong, and says nothing that the word does not say. Words that are not here have no colour.
var toneOfWord = map[string]output.Tone{
	// members, and those of etcd
	string(drm.StateActive): output.Good,
	"joining":               output.Warn,
	"unready":               output.Warn,
	"draining":              output.Warn,
	"leaving":               output.Warn,
	stateAbsent:             output.Warn,
	stateGone:               output.Bad,
	drm.DrainOrdered:        output.Warn,
	drm.DrainIgnored:        output.Bad,
	"up":                    output.Good,
	"down":                  output.Bad,

	// resources
	string(drm.StateClaimed):     output.Warn,
	string(drm.StateUnassigned):  output.Bad,
	string(drm.StateFailed):      output.Bad,
	string(drm.StateQuarantined): output.Bad,
	"suspended":                  output.Warn,

	// apps
	string(drm.AppUsable):     output.Good,
	string(drm.AppResharding): output.Warn,
	string(drm.AppDeleting):   output.Warn,
	string(drm.AppLoading):    output.Warn,
	string(drm.AppNewer):      output.Bad,
	string(drm.AppBroken):     output.Bad,

	// results of doctor, and how bad the warnings of status are
	string(drm.CheckOK):       output.Good,
	string(drm.CheckWarn):     output.Warn,
	string(drm.CheckFail):     output.Bad,
	string(drm.SeverityError): output.Bad,

	// events; failed and quarantined are above
	string(drm.EventRecovered):       output.Good,
	string(drm.EventSlow):            output.Warn,
	string(drm.EventLost):            output.Bad,
	string(drm.EventMemberActive):    output.Good,
	string(drm.EventMemberReady):     output.Good,
	string(drm.EventMemberUnready):   output.Warn,
	string(drm.EventMemberFull):      output.Warn,
	string(drm.EventMemberFlapping):  output.Bad,
	string(drm.EventMemberDied):      output.Bad,
	string(drm.EventCoordinatorLost): output.Bad,
	string(drm.EventGap):             output.Bad,
}

// toned gives a word of a table its tone.
func toned[T ~string](word T) any { return output.Toned{Value: word, Tone: toneOfWord[string(word)]} }

// tonedAs gives a text the tone of a word.
func tonedAs(text any, word string) any { return output.Toned{Value: text, Tone: toneOfWord[word]} }

// badIfAny gives a count that should be 0 its tone.
func badIfAny(n int) any {
	if n == 0 {
		return n
	}
	return output.Toned{Value: n, Tone: output.Bad}
}
