package core

import "testing"

func (f *fixture) reported(id string, out Outcome, message string) {
	f.c.Reported(f.now, 0, id, out, message)
}

func TestAReportChangesTheStateAndNothingElse(t *testing.T) {
	f := handled(t)
	f.reported("a", Error, "exit status 1")
	f.want("write-state a 110 failed exit status 1")
	f.wantHandled("a")
	if s := f.c.Stats(); s.Active != 0 || s.Failed != 1 || s.Claims != 1 {
		t.Errorf("stats %+v", s)
	}
	f.saved("a", 110)
	f.reported("a", Error, "exit status 1") // known
	f.want()
	f.noTimer()
	f.reported("a", OK, "")
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.wantHandled("a")
	if s := f.c.Stats(); s.Active != 1 || s.Failed != 0 {
		t.Errorf("stats %+v", s)
	}
}

// What Handle starts may fail before the core has heard that Handle returned.
func TestAReportDuringHandleOutlivesIt(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.reported("a", Error, "exit status 1")
	f.want("write-state a 110 failed exit status 1")
	f.done("a", OK)
	f.saved("a", 110)
	f.want()
	f.wantHandled("a")
	f.reported("a", OK, "")
	f.want("write-state a 110 active")
}

func TestAReportThatWasTakenBackDuringHandleDoesNotMakeItActiveBeforeItReturned(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.reported("a", OK, "")
	f.want()
	f.wantHandled()
	f.done("a", OK)
	f.want("write-state a 110 active")
}

func TestAReportOfWhatEndsIsIgnored(t *testing.T) {
	f := handled(t)
	f.remove("a")
	f.want("terminate a 110 removed")
	f.reported("a", Error, "exit status 1")
	f.want()
	f.done("a", OK)
	f.want("release a 110")
	f.reported("a", Error, "exit status 1")
	f.want()
	f.released("a", 200)
	f.want()
	f.reported("a", Error, "exit status 1")
	f.reported("nobody", OK, "")
	f.want()
}

func TestAnotherHandleForgetsWhatWasReported(t *testing.T) {
	f := handled(t)
	f.reported("a", Error, "exit status 1")
	f.want("write-state a 110 failed exit status 1")
	f.saved("a", 110)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("write-state a 110 active")
}
