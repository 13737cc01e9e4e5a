package journal_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// story makes events one second apart from lines such as "a handle r 7" and "a gone".
func story(lines ...string) []journal.Event {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var events []journal.Event
	for i, line := range lines {
		e := journal.Event{Time: start.Add(time.Duration(i) * time.Second)}
		// Started and Gone have neither resource nor token, so those fields stay zero.
		_, _ = fmt.Sscan(line, &e.Member, (*string)(&e.Action), &e.Resource, &e.Token)
		events = append(events, e)
	}
	return events
}

func kinds(faults []journal.Fault) []journal.Kind {
	var ks []journal.Kind
	for _, f := range faults {
		ks = append(ks, f.Kind)
	}
	return ks
}

func TestCheckFindsEachFault(t *testing.T) {
	for _, test := range []struct {
		name   string
		events []journal.Event
		expect journal.Expect
		want   []journal.Kind
	}{
		{
			name:   "a handover, break before make",
			events: story("a handle r 1", "a terminate r 1", "b handle r 2"),
			expect: journal.Expect{Resources: []string{"r"}},
		},
		{
			name:   "handled by the new owner before the old one ended",
			events: story("a handle r 1", "b handle r 2", "a terminate r 1"),
			want:   []journal.Kind{journal.Overlap},
		},
		{
			name:   "twice by one member",
			events: story("a handle r 1", "a handle r 1"),
			want:   []journal.Kind{journal.Overlap},
		},
		{
			name:   "a terminate under another token ends nothing",
			events: story("a handle r 1", "a terminate r 9", "b handle r 10"),
			want:   []journal.Kind{journal.Overlap},
		},
		{
			name:   "a death ends what the dead one handled",
			events: story("a handle r 1", "a gone", "b handle r 2"),
			expect: journal.Expect{Resources: []string{"r"}},
		},
		{
			name:   "a request on its way when its sender died",
			events: story("a gone", "a handle r 1", "b handle r 2"),
			expect: journal.Expect{Resources: []string{"r"}},
		},
		{
			name:   "a member that returned counts again",
			events: story("a handle r 1", "a gone", "a started", "a handle r 2", "b handle r 3"),
			want:   []journal.Kind{journal.Overlap},
		},
		{
			name:   "the same claim after a failure or a change",
			events: story("a handle r 1", "a terminate r 1", "a handle r 1"),
		},
		{
			name:   "a token that does not rise",
			events: story("a handle r 5", "a terminate r 5", "b handle r 5"),
			want:   []journal.Kind{journal.TokenBack},
		},
		{
			name:   "a token that falls",
			events: story("a handle r 5", "a terminate r 5", "a handle r 4"),
			want:   []journal.Kind{journal.TokenBack},
		},
		{
			name:   "never handled, given up, and too many",
			events: story("a handle r 1", "a terminate r 1", "a handle s 2"),
			expect: journal.Expect{Resources: []string{"r", "q"}},
			want:   []journal.Kind{journal.Unhandled, journal.Unhandled, journal.Leftover},
		},
		{
			name:   "nothing should be left",
			events: story("a handle r 1"),
			expect: journal.Expect{Resources: []string{}},
			want:   []journal.Kind{journal.Leftover},
		},
		{
			name:   "a gap",
			events: story("a handle r 1", "a terminate r 1", "b handle q 1", "b handle r 2"),
			expect: journal.Expect{MaxGap: time.Second},
			want:   []journal.Kind{journal.LongGap},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			faults := journal.Check(test.events, test.expect)
			if diff := cmp.Diff(test.want, kinds(faults)); diff != "" {
				t.Errorf("faults (-want +got):\n%s\n%v", diff, faults)
			}
		})
	}
}

// Any sequence of handlings in turn passes; one handle out of turn never does.
func TestCheckFindsAnOverlapAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []journal.Event
		n := rapid.IntRange(1, 30).Draw(t, "handovers")
		for i := range n {
			e := journal.Event{
				Member:   rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "m"),
				Resource: "r",
				Token:    int64(2 * i),
			}
			e.Action = journal.Handle
			events = append(events, e)
			e.Action = journal.Terminate
			events = append(events, e)
		}
		if faults := journal.Check(events, journal.Expect{Resources: []string{}}); len(faults) > 0 {
			t.Fatalf("in turn, but %v", faults)
		}
		at := 2*rapid.IntRange(0, n-1).Draw(t, "at") + 1
		intruder := journal.Event{Member: "x", Resource: "r", Action: journal.Handle, Token: events[at].Token + 1}
		events = append(events[:at:at], append([]journal.Event{intruder}, events[at:]...)...)
		if faults := journal.Check(events, journal.Expect{}); len(faults) == 0 {
			t.Fatal("an overlap was missed")
		}
	})
}

func TestAFollowerSeesWhatAllEventsShow(t *testing.T) {
	var j journal.Journal
	f := j.Follow()
	events := story("a handle r 1", "b handle q 2", "a terminate r 1", "b gone", "a handle q 3", "c handle q 4")
	for i, e := range events {
		j.Record(e)
		if i%2 == 0 {
			continue // this compares after two new events at once
		}
		if diff := cmp.Diff(journal.Holders(j.Events()), f.Holders()); diff != "" {
			t.Errorf("after %+v: %s", e, diff)
		}
	}
}

func TestLongestGap(t *testing.T) {
	for _, test := range []struct {
		name     string
		events   []journal.Event
		resource string
		seconds  int
	}{
		{"never handled again", story("a handle r 1", "a terminate r 1", "b handle q 2"), "", 0},
		{"a handover", story("a handle r 1", "a terminate r 1", "b handle q 1", "b handle r 2"), "r", 2},
		{
			"a death",
			story("a handle r 1", "b handle q 2", "a gone", "b terminate q 2", "a started", "b handle q 3",
				"b handle r 4"), "r", 4,
		},
		{
			"both at once have none",
			story("a handle r 1", "b handle r 2", "a terminate r 1", "b terminate r 2", "c handle r 3"), "r", 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if r, gap := journal.LongestGap(test.events); r != test.resource ||
				gap != time.Duration(test.seconds)*time.Second {
				t.Errorf("got %v of %q, want %d s of %q", gap, r, test.seconds, test.resource)
			}
		})
	}
}

func TestLongestOverlap(t *testing.T) {
	for _, test := range []struct {
		name     string
		events   []journal.Event
		resource string
		seconds  int
	}{
		{"none", nil, "", 0},
		{"a handover", story("a handle r 1", "a terminate r 1", "b handle r 2", "b terminate r 2"), "", 0},
		{
			"the old one ends late",
			story("a handle r 1", "b handle r 2", "a handle q 3", "a terminate r 1", "b terminate r 2"), "r", 2,
		},
		{
			"the new one ends first",
			story("a handle r 1", "b handle r 2", "b terminate r 2", "a handle q 3", "a terminate r 1"), "r", 1,
		},
		{"it goes on", story("a handle r 1", "b handle r 2", "a handle q 3", "a handle s 4"), "r", 2},
		{
			"three in turn, never one alone",
			story("a handle r 1", "b handle r 2", "c handle r 3", "a terminate r 1", "b terminate r 2"), "r", 3,
		},
		{
			"twice, apart",
			story("a handle r 1", "b handle r 2", "b terminate r 2", "c handle r 3", "a handle q 4", "c terminate r 3"),
			"r", 2,
		},
		{"a death ends it", story("a handle r 1", "b handle r 2", "a gone", "b handle q 3"), "r", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if r, d := journal.LongestOverlap(test.events); r != test.resource ||
				d != time.Duration(test.seconds)*time.Second {
				t.Errorf("got %v of %q, want %d s of %q", d, r, test.seconds, test.resource)
			}
		})
	}
}

func TestGrownMissesNothing(t *testing.T) {
	var j journal.Journal
	grown := j.Grown()
	go j.Record(journal.Event{Member: "a", Action: journal.Started})
	<-grown
	if j.Len() != 1 || j.Events()[0].Time.IsZero() {
		t.Errorf("got %v", j.Events())
	}
}

func TestWriteThenReadGivesTheSame(t *testing.T) {
	events := story("a started", "a handle r 1", "a terminate r 1", "a gone")
	var b bytes.Buffer
	if err := journal.Write(&b, events); err != nil {
		t.Fatal(err)
	}
	got, err := journal.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Error(diff)
	}
	if _, err := journal.Read(bytes.NewBufferString("{}\n{")); err == nil {
		t.Error("half an event was read without an error")
	}
}

func ExampleCheck() {
	events := story("a handle feed-1 1", "b handle feed-1 2")
	for _, fault := range journal.Check(events, journal.Expect{}) {
		fmt.Println(fault)
	}
	// Output: overlap: feed-1: b began under token 2, while a handles it under 1
}

func TestReceiverRecordsWhatAWebhookTells(t *testing.T) {
	var j journal.Journal
	server := httptest.NewServer(journal.Receiver{Journal: &j})
	defer server.Close()
	post := func(body string) int {
		t.Helper()
		resp, err := http.Post(server.URL, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, action := range []string{"handle", "handle_failed", "terminate"} {
		body := fmt.Sprintf(
			`{"action":%q,"app":"x","member":"a","token":7,"resource":{"id":"r"},"error":"","valid_ms":1}`,
			action,
		)
		if code := post(body); code != http.StatusNoContent {
			t.Errorf("%s: status %d", action, code)
		}
	}
	if code := post("nonsense"); code != http.StatusBadRequest {
		t.Errorf("nonsense: status %d", code)
	}
	events := j.Events()
	for i := range events {
		events[i].Time = time.Time{}
	}
	want := []journal.Event{
		{Member: "a", Action: journal.Handle, Resource: "r", Token: 7},
		{Member: "a", Action: journal.Terminate, Resource: "r", Token: 7},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Error(diff)
	}
}
