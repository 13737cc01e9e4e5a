package health_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/health"
)

// shows fails the test unless the board says that.
func shows(t *testing.T, b *health.Board, state health.State, reason string) health.Status {
	t.Helper()
	s := b.Status()
	if s.State != state || s.Reason != reason {
		t.Errorf("the board says %q because of %q, want %q because of %q", s.State, s.Reason, state, reason)
	}
	return s
}

func TestABoardSaysHowFarAMemberIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b health.Board
		shows(t, &b, health.Starting, "the member has not begun to start")
		if !b.Begin() {
			t.Fatal("a new board is in use")
		}
		shows(t, &b, health.Starting, "the member is starting")
		if b.Begin() {
			t.Error("two members have one board")
		}
		b.Serve()
		if s := shows(t, &b, health.Ready, ""); !s.Since.Equal(time.Now()) {
			t.Errorf("ready since %v", s.Since)
		}
		until := time.Now().Add(time.Minute)
		b.Stop(nil, until)
		if s := shows(t, &b, health.Stopping, "the member is stopping"); !s.Until.Equal(until) {
			t.Errorf("stopping until %v", s.Until)
		}
		b.Serve()
		shows(t, &b, health.Stopping, "the member is stopping")
		b.End(nil)
		shows(t, &b, health.Ended, "the member was stopped")
		b.End(errors.New("no etcd"))
		shows(t, &b, health.Ended, "the member has ended: no etcd")
		b.End(nil)
		shows(t, &b, health.Ended, "the member has ended: no etcd")
		if !b.Begin() {
			t.Error("the board of a member that has ended is in use")
		}
		b.Stop(errors.New("etcd went back"), time.Time{})
		shows(t, &b, health.Stopping, "the member ends: etcd went back")
	})
}

// Each of many short requests within a long wait is a wait too. They must not hide the long one.
func TestABoardShowsTheInnermostWaitThatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b health.Board
		b.Begin()
		began, until := time.Now(), time.Now().Add(time.Minute)
		done := b.Wait("the id", func() string { return "host-7 has it" }, until)
		s := shows(t, &b, health.Starting, "waiting for the id: host-7 has it")
		if !s.Since.Equal(began) || !s.Until.Equal(until) {
			t.Errorf("it waits from %v until %v", s.Since, s.Until)
		}
		time.Sleep(10 * time.Second)
		inner := b.Wait("etcd", nil, time.Time{})
		shows(t, &b, health.Starting, "waiting for the id: host-7 has it")
		time.Sleep(time.Second)
		shows(t, &b, health.Starting, "waiting for etcd")
		inner()
		shows(t, &b, health.Starting, "waiting for the id: host-7 has it")
		done()
		shows(t, &b, health.Starting, "the member is starting")
	})
}

func TestWhatHindersAMemberMakesItUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b health.Board
		b.Begin()
		b.Hinder("key", "its key is gone", time.Time{})
		shows(t, &b, health.Starting, "the member is starting")
		b.Serve()
		began := time.Now()
		if s := shows(t, &b, health.Unready, "its key is gone"); !s.Since.Equal(began) {
			t.Errorf("since %v", s.Since)
		}
		time.Sleep(time.Second)
		b.Hinder("probe", "its probe fails", time.Time{})
		shows(t, &b, health.Unready, "its key is gone; its probe fails")
		b.Hinder("key", "", time.Time{})
		b.Hinder("probe", "its probe still fails", time.Time{})
		if s := shows(t, &b, health.Unready, "its probe still fails"); !s.Since.Equal(began.Add(time.Second)) {
			t.Errorf("since %v, want since it first failed", s.Since)
		}
		time.Sleep(time.Second)
		b.Hinder("probe", "", time.Time{})
		if s := shows(t, &b, health.Ready, ""); !s.Since.Equal(time.Now()) {
			t.Errorf("ready since %v", s.Since)
		}
	})
}

func TestANilBoardIsIgnored(t *testing.T) {
	var b *health.Board
	b.Wait("godot", nil, time.Time{})()
	b.Serve()
	b.Hinder("key", "gone", time.Time{})
	b.Stop(nil, time.Time{})
	b.End(nil)
}
