package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// answers gives a window of 8 one answer after the other, and returns its size after each.
func answers(w *window, at *time.Time, err error, took ...time.Duration) (sizes []int) {
	for _, d := range took {
		sent := *at
		*at = at.Add(d)
		w.answer(sent, *at, err)
		*at = at.Add(time.Millisecond)
		sizes = append(sizes, w.size)
	}
	return sizes
}

func TestFewerTransactionsAreUnderWayWhileAnswersTakeLong(t *testing.T) {
	const ms, long = time.Millisecond, 300 * time.Millisecond
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		slow time.Duration
		err  error
		took []time.Duration
		want int
	}{
		"quick":                {200 * ms, nil, []time.Duration{ms, 150 * ms, ms}, 8},
		"long":                 {200 * ms, nil, []time.Duration{ms, long}, 4},
		"long again and again": {200 * ms, nil, []time.Duration{ms, long, long, long, long}, 2},
		"quick again":          {200 * ms, nil, []time.Duration{ms, long, long, ms, ms}, 3},
		"the way is long": {
			200 * ms, nil, []time.Duration{600 * ms, 700 * ms, 900 * ms, 600 * ms}, 8,
		},
		"the way is long, and it takes long": {200 * ms, nil, []time.Duration{600 * ms, 2500 * ms}, 4},
		"it does not count":                  {0, nil, []time.Duration{ms, time.Second, time.Second}, 8},
		"refused, and long":                  {200 * ms, refused, []time.Duration{long}, 4},
		"no answer":                          {200 * ms, context.DeadlineExceeded, []time.Duration{ms, ms, ms, ms}, 1},
		"too many requests":                  {200 * ms, rpctypes.ErrTooManyRequests, []time.Duration{ms}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			at := time.Now()
			w := window{size: 8, most: 8, slow: c.slow}
			if sizes := answers(&w, &at, c.err, c.took...); sizes[len(sizes)-1] != c.want {
				t.Errorf("sizes %v, want %d in the end", sizes, c.want)
			}
		})
	}
}

// Transactions that were sent together wait for each other, so their slow answers count as one.
func TestSlowAnswersToWhatWasSentTogetherCountOnce(t *testing.T) {
	sent := time.Now()
	w := window{size: 8, most: 64, slow: 200 * time.Millisecond}
	w.answer(sent, sent.Add(time.Millisecond), nil)
	for i := range 8 {
		w.answer(sent, sent.Add(time.Second+time.Duration(i)*time.Millisecond), nil)
	}
	if w.size != 8 { // a quarter of most are left
		t.Errorf("size %d, want 8", w.size)
	}
	w = window{size: 64, most: 64, slow: 200 * time.Millisecond}
	w.answer(sent, sent.Add(time.Millisecond), nil)
	for i := range 8 {
		w.answer(sent, sent.Add(time.Second+time.Duration(i)*time.Millisecond), nil)
	}
	if w.size != 32 {
		t.Errorf("size %d, want 32", w.size)
	}
}

// An answer that was fastest long ago proves nothing: etcd may be reached over another path now.
func TestTheFastestAnswerIsForgotten(t *testing.T) {
	at := time.Now()
	w := window{size: 8, most: 8, slow: 200 * time.Millisecond}
	answers(&w, &at, nil, time.Millisecond)
	at = at.Add(2 * windowForgets)
	if sizes := answers(&w, &at, nil, 600*time.Millisecond, 700*time.Millisecond); sizes[1] != 8 {
		t.Errorf("sizes %v, want 8", sizes)
	}
}
