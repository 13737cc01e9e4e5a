package picture

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSettledKeepsWhatWasThereAtEveryLook(t *testing.T) {
	unassigned := func(member string) Violation {
		return Violation{Kind: KindUnassigned, Resource: "r", Member: member}
	}
	misplaced := func(token int64) Violation {
		return Violation{Kind: KindMisplaced, Resource: "r", Member: "a", Token: token}
	}
	corrupt, none := Violation{Kind: KindCorrupt, Resource: "k"}, Violation{Kind: KindNoMembers}
	a, b, one, two := unassigned("a"), unassigned("b"), misplaced(1), misplaced(2)
	type looks [][]Violation // the last one is seen from then on
	for name, tt := range map[string]struct {
		looks looks
		want  []Violation
		seen  int // looks within a second
	}{
		"nothing":                        {looks{{}}, nil, 1},
		"what does not pass":             {looks{{corrupt}}, []Violation{corrupt}, 1},
		"what passes stays":              {looks{{a}}, []Violation{a}, 3},
		"it belongs to another by now":   {looks{{a}, {b}}, []Violation{b}, 3},
		"what passes is gone":            {looks{{a}, {}}, nil, 2},
		"the claim is another":           {looks{{one}, {two}}, nil, 2},
		"what does not pass comes":       {looks{{one}, {corrupt}}, []Violation{corrupt}, 2},
		"there is nobody to mend it":     {looks{{a, none}}, []Violation{a, none}, 1},
		"what passes, and what does not": {looks{{corrupt, one}, {corrupt}}, []Violation{corrupt}, 2},
		"one passes, and another one is": {looks{{one}, {a}, {a}}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := 0
				got, err := Settled(t.Context(), time.Second, func(context.Context) ([]Violation, error) {
					look := tt.looks[min(seen, len(tt.looks)-1)]
					seen++
					return slices.Clone(look), nil
				})
				if err != nil || !slices.Equal(got, tt.want) || seen != tt.seen {
					t.Errorf("%+v, %v after %d looks, want %+v after %d", got, err, seen, tt.want, tt.seen)
				}
			})
		})
	}
}

func TestSettledEndsWithTheFirstErrorAndWithItsContext(t *testing.T) {
	passing := []Violation{{Kind: KindOrphan, Resource: "r"}}
	broken, asked := errors.New("broken"), errors.New("asked to end")
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		_, err := Settled(t.Context(), time.Hour, func(context.Context) ([]Violation, error) {
			if looks++; looks == 3 {
				return nil, broken
			}
			return passing, nil
		})
		if err != broken || looks != 3 {
			t.Errorf("%v after %d looks, want the error of the third", err, looks)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(asked) })
		begin := time.Now()
		_, err = Settled(ctx, time.Hour, func(context.Context) ([]Violation, error) { return passing, nil })
		if err != asked || time.Since(begin) > 10*time.Second {
			t.Errorf("%v after %v, want the context's cause at once", err, time.Since(begin))
		}
	})
}
