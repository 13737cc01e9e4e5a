package ready_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/ready"
)

func TestARowOfAnswersDecides(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers string // + success, - failure
		want    string // after each: R ready, u unready
	}{
		{"the first answer decides", "+", "R"},
		{"the first answer decides against it", "-", "u"},
		{"three failures in a row", "+---", "RRRu"},
		{"a success between failures", "+--+--+---", "RRRRRRRRRu"},
		{"two successes in a row", "+---+-++", "RRRuuuuR"},
		{"until it was ready, one success is enough", "--+", "uuR"},
		{"it needs a row again once it was ready", "-+---+", "uRRRuu"},
	} {
		c := ready.NewCount(3, 2)
		got, was := "", false
		for n, answer := range tt.answers {
			changed := c.Note(answer == '+')
			if changed != (n == 0 || c.Ready() != was) {
				t.Errorf("%s: answer %d: changed is %v", tt.name, n, changed)
			}
			was = c.Ready()
			got += map[bool]string{true: "R", false: "u"}[was]
		}
		if got != tt.want {
			t.Errorf("%s: %s gives %s, want %s", tt.name, tt.answers, got, tt.want)
		}
	}
}

// Whatever came before, a row of equal answers that is long enough decides, and a shorter one changes nothing.
func TestOnlyARowThatIsLongEnoughChangesTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unreadyAfter, readyAfter := rapid.IntRange(1, 5).
			Draw(t, "unready after"),
			rapid.IntRange(1, 5).
				Draw(t, "ready after")
		c := ready.NewCount(unreadyAfter, readyAfter)
		c.Note(true)
		row, last := 1, true
		for range rapid.IntRange(0, 40).Draw(t, "answers") {
			answer := rapid.Bool().Draw(t, "answer")
			if answer != last {
				row = 0
			}
			row, last = row+1, answer
			before := c.Ready()
			c.Note(answer)
			needed := unreadyAfter
			if answer {
				needed = readyAfter
			}
			if want := before; row >= needed {
				if c.Ready() != answer {
					t.Fatalf("%d answers %v in a row, and ready is %v", row, answer, c.Ready())
				}
			} else if c.Ready() != want {
				t.Fatalf("%d answers %v in a row changed it", row, answer)
			}
		}
	})
}

func TestAMemberStaysAwayOnlyIfItAloneFails(t *testing.T) {
	fails := ready.Tally{Active: 1, Failed: 9}
	for _, tt := range []struct {
		name        string
		own, others ready.Tally
		asks, away  bool
	}{
		{"it fails, the others do not", fails, ready.Tally{Active: 10}, true, true},
		{"it fails in too few", ready.Tally{Active: 2, Failed: 8}, ready.Tally{Active: 10}, false, false},
		{"it has too few", ready.Tally{Failed: 9}, ready.Tally{Active: 10}, false, false},
		{"the others have too few", fails, ready.Tally{Active: 9}, true, false},
		{"there are no others", fails, ready.Tally{}, true, false},
		{"the others fail too", fails, fails, true, false},
		{"45 in 100 of the others fail", fails, ready.Tally{Active: 55, Failed: 45}, true, false},
		{"44 in 100 of the others fail", fails, ready.Tally{Active: 56, Failed: 44}, true, true},
		{"it does well", ready.Tally{Active: 100}, ready.Tally{Active: 100}, false, false},
	} {
		d := ready.NewDoubt(0.9, 15*time.Second, 10*time.Second)
		if d.Note(0, tt.own) || d.Note(14*time.Second, tt.own) {
			t.Errorf("%s: the others are asked for before it has lasted", tt.name)
		}
		now := 15 * time.Second
		asks := d.Note(now, tt.own)
		away := false
		if asks {
			_, away = d.Judge(now, tt.others)
		}
		if asks != tt.asks || away != tt.away || d.Away(now) != tt.away {
			t.Errorf("%s: asks %v, away %v, want %v, %v", tt.name, asks, away, tt.asks, tt.away)
		}
	}
}

func TestTheOthersAreAskedForOnceInAWhile(t *testing.T) {
	fails := ready.Tally{Failed: 20}
	d := ready.NewDoubt(0.9, time.Second, 10*time.Second)
	asked := 0
	for now := time.Duration(0); now < 60*time.Second; now += 100 * time.Millisecond {
		if d.Note(now, fails) {
			asked++
			d.Judge(now, fails)
		}
	}
	if asked != 6 {
		t.Errorf("asked %d times in a minute, want 6", asked)
	}
	if d.Note(60*time.Second, ready.Tally{Active: 20}) || d.Note(71*time.Second, fails) {
		t.Error("asked at once when it fails again")
	}
}

func TestAbsencesDoubleUntilItWasBackForLong(t *testing.T) {
	d := ready.NewDoubt(0.9, 0, 0)
	var got []time.Duration
	now := time.Duration(0)
	again := func(rest time.Duration) {
		now += rest
		if !d.Note(now, ready.Tally{Failed: 10}) {
			t.Fatalf("it does not ask at %v", now)
		}
		away, fails := d.Judge(now, ready.Tally{Active: 10})
		if !fails || d.Left(now) != away || d.Note(now, ready.Tally{Failed: 10}) {
			t.Fatalf("it is not away at %v: %v, %v", now, away, fails)
		}
		got = append(got, away)
		now += away
		if d.Away(now) || d.Left(now) != 0 {
			t.Fatalf("it is not back at %v", now)
		}
	}
	for range 6 {
		again(time.Second)
	}
	again(ready.LongestAbsence)
	again(ready.LongestAbsence + time.Second)
	want := []time.Duration{1, 2, 4, 8, 10, 10, 10, 1}
	for n := range want {
		if got[n] != want[n]*time.Minute {
			t.Errorf("absence %d lasts %v, want %d min", n, got[n], want[n])
		}
	}
}
