package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestSimulatePrintsItsFigures(t *testing.T) {
	args := []string{
		"simulate", "--members", "20", "--resources", "10000", "--events", "30", "--weights", "1, 2", "--seed", "9",
	}
	got := drmctl(t.Context(), append(args, "-o", "json")...)
	if got.code != exitFine || got.stderr != "" {
		t.Fatalf("exit code %d, stderr %q", got.code, got.stderr)
	}
	var s simulationJSON
	d := json.NewDecoder(strings.NewReader(got.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	if s.Members != 20 || s.Resources != 10_000 || s.Shards != 1024 || s.Events != 30 || s.Seed != 9 ||
		!slices.Equal(s.Weights, []int{1, 2}) {
		t.Errorf("not what was asked for: %+v", s)
	}
	if s.MaxOverAvg < 1 || s.Moves == 0 || s.Moves != s.Minimum || s.MovesOverMinimum != 1 ||
		s.DecisionMaxMS < s.DecisionMS {
		t.Errorf("ring: %+v", s.spreadJSON)
	}
	b := s.Balanced
	if b.MaxOverAvg >= s.MaxOverAvg || b.MovesOverMinimum < 1 || b.Exceptions == 0 || len(b.ByKind) == 0 ||
		b.MostExceptions < b.Exceptions || b.BalanceMaxMS < b.BalanceMS || b.CorrectionEvents > 1 ||
		b.CorrectionBytes > 300 || b.MovesOverMinimum > 1.2 || b.WorstOverLimit > 1 {
		t.Errorf("balanced: %+v", b)
	}
	if s.Rendezvous.MovesOverMinimum != 1 || s.NaiveJump.MovesOverMinimum <= 1 {
		t.Errorf("rendezvous: %+v; naive jump: %+v", s.Rendezvous, s.NaiveJump)
	}

	table := drmctl(t.Context(), args...)
	for _, want := range []string{
		"MAX/AVG", "MOVES/MINIMUM", "ring ", "ring, bounded ", "rendezvous ", "naive jump ",
		"10,000 resources in 1024 shards", "30 events",
	} {
		if !strings.Contains(table.stdout, want) {
			t.Errorf("the table does not say %q:\n%s", want, table.stdout)
		}
	}
}
