package handler

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What has an unknown outcome is remembered until two further instances have come, however much that is.
func TestUnknownOutcomesAreNotRememberedForEver(t *testing.T) {
	var in instances
	for life := range 10 {
		in.note(&attempt{status: http.StatusNoContent, instance: fmt.Sprint(life), began: time.Now()}, key{})
		for n := range 100 {
			in.settle(key{id: fmt.Sprint(life, "-", n)}, false)
		}
	}
	if n := len(in.unsettled); n != 200 {
		t.Errorf("%d are remembered, want those of the last two instances", n)
	}
}
