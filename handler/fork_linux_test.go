package handler

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// forkInto makes a new process become a program that makes a file. It returns what the process wrote about its failure,
// and whether the file is there.
func forkInto(t *testing.T, f *forker, path, file string, until int64) (told []byte, ran bool) {
	t.Helper()
	runtime.LockOSThread() // the process dies with the thread
	defer runtime.UnlockOSThread()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	pid, err := f.fork(forking{
		path: path, args: []string{"touch", file}, env: os.Environ(),
		stdin: int(stdin.Fd()), stdout: 1, stderr: 2, result: int(to.Fd()),
		until: until, guard: os.Getpid(),
	})
	_ = to.Close()
	if err != nil {
		t.Fatal(err)
	}
	told = make([]byte, 1)
	n, _ := from.Read(told)
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
	_, err = os.Stat(file)
	return told[:n], err == nil
}

// The claim may end between the fork and the exec.
func TestForkLooksAtTheClockRightBeforeExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var f forker
	told, ran := forkInto(t, &f, "/usr/bin/touch", filepath.Join(dir, "late"), clockNow()-1)
	if ran || len(told) != 1 || told[0] != codeEnded {
		t.Errorf("past the deadline: told %v, ran: %v", told, ran)
	}
	told, ran = forkInto(t, &f, "/usr/bin/touch", filepath.Join(dir, "fine"), clockNow()+time.Hour.Milliseconds())
	if !ran || len(told) != 0 {
		t.Errorf("before the deadline: told %v, ran: %v", told, ran)
	}
	told, ran = forkInto(t, &f, "/no/such/program", filepath.Join(dir, "no"), clockNow()+time.Hour.Milliseconds())
	if ran || len(told) != 1 || syscall.Errno(told[0]) != syscall.ENOENT {
		t.Errorf("no such program: told %v, ran: %v", told, ran)
	}
}

func TestForkWorksWithoutCloseRange(t *testing.T) {
	t.Parallel()
	f := forker{probed: true}
	told, ran := forkInto(t, &f, "/usr/bin/touch", filepath.Join(t.TempDir(), "f"), clockNow()+time.Hour.Milliseconds())
	if !ran || len(told) != 0 {
		t.Errorf("told %v, ran: %v", told, ran)
	}
}
