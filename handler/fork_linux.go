package handler

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Go's own way to start a process (os/exec, syscall.ForkExec) suspends the thread, with the right to run Go code that
// it holds, until exec succeeds (CLONE_VFORK). Where exec hangs, because the program is on a network file system that
// does not answer, the whole guard would hang with it at its next garbage collection, and with the guard the deadlines
// of all its processes. So a guard forks in the plain old way, which copies its small memory, and does what package
// syscall does besides.
//
// The three functions are those that the runtime has for package syscall; it promises to keep them for users like
// gVisor.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// codeEnded is what a new process tells instead of an errno when its claim has ended.
const codeEnded = 255

// forking is what a new process needs.
type forking struct {
	path      string
	args, env []string
	stdin     int   // file descriptors above 3: its input,
	stdout    int   // its output, or 1,
	stderr    int   // its errors, or 2,
	result    int   // and where it tells why it did not become its program
	until     int64 // when its claim ends, on clockNow
	guard     int   // the guard's process id
}

// forker starts processes.
type forker struct {
	probed     bool
	limit      *unix.Rlimit // of open files, for the processes; nil: the guard's own
	closeRange bool         // the kernel has close_range (Linux 5.9)
}

func (f *forker) fork(what forking) (int, error) {
	if !f.probed {
		f.probed = true
		f.limit = originalLimit()
		f.closeRange = unix.CloseRange(1<<30, 1<<30, 0) == nil
	}
	path, err := syscall.BytePtrFromString(what.path)
	if err != nil {
		return 0, fmt.Errorf("program %q: %w", what.path, err)
	}
	args, err := syscall.SlicePtrFromStrings(what.args)
	if err != nil {
		return 0, fmt.Errorf("arguments: %w", err)
	}
	env, err := syscall.SlicePtrFromStrings(what.env)
	if err != nil {
		return 0, fmt.Errorf("environment: %w", err)
	}
	highest := 0
	if !f.closeRange {
		highest = highestDescriptor()
	}
	pid, errno := rawFork(path, args, env, &what, f.limit, highest)
	if errno != 0 {
		return 0, os.NewSyscallError("fork", errno)
	}
	return pid, nil
}

// rawFork makes a process that becomes the program, unless it tells on what.result why not. In the new process there is
// one thread and nothing of the runtime works: it may call only what neither allocates nor grows the stack.
//
//go:noinline
//go:norace
func rawFork(path *byte, args, env []*byte, what *forking, limit *unix.Rlimit, highest int) (int, syscall.Errno) {
	const boottime, deathSignal = unix.CLOCK_BOOTTIME, unix.PR_SET_PDEATHSIG
	var (
		now      unix.Timespec
		pid, n   uintptr
		errno    syscall.Errno
		code     [1]byte
		flags    = uintptr(syscall.SIGCHLD)
		no, fd   uintptr
		closeAll = highest == 0
	)
	if runtime.GOARCH == "s390x" { // which takes the stack first
		flags, no = 0, uintptr(syscall.SIGCHLD)
	}
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, flags, no, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return int(pid), errno
	}
	afterForkInChild()

	// A group of its own; and it dies with the guard, which may have died already.
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETPGID, 0, 0, 0); errno != 0 {
		goto fail
	}
	if _, _, errno = syscall.RawSyscall6(
		syscall.SYS_PRCTL,
		deathSignal,
		uintptr(syscall.SIGKILL),
		0,
		0,
		0,
		0,
	); errno != 0 {
		goto fail
	}
	if n, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0); int(n) != what.guard {
		goto exit
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(what.stdin), 0, 0); errno != 0 {
		goto fail
	}
	if what.stdout != 1 {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(what.stdout), 1, 0); errno != 0 {
			goto fail
		}
	}
	if what.stderr != 2 {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(what.stderr), 2, 0); errno != 0 {
			goto fail
		}
	}
	// What other processes read or tell ends when the last holder of the other end closes it. Exec would, but may hang.
	if _, _, errno = syscall.RawSyscall(
		syscall.SYS_DUP3,
		uintptr(what.result),
		reportFD,
		syscall.O_CLOEXEC,
	); errno != 0 {
		goto fail
	}
	what.result = reportFD
	if closeAll {
		_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, reportFD+1, uintptr(^uint32(0)), 0)
	}
	for fd = reportFD + 1; int(fd) <= highest; fd++ {
		_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	}
	if limit != nil {
		_, _, _ = syscall.RawSyscall6(
			syscall.SYS_PRLIMIT64,
			0,
			syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(limit)),
			0,
			0,
			0,
		)
	}
	// The last look at the clock.
	if _, _, errno = syscall.RawSyscall(
		syscall.SYS_CLOCK_GETTIME,
		boottime,
		uintptr(unsafe.Pointer(&now)),
		0,
	); errno != 0 {
		goto fail
	}
	if int64(
		now.Sec,
	)*1000+int64(
		now.Nsec,
	)/int64(
		time.Millisecond,
	) >= what.until { //nolint:unconvert // 32-bit systems need it, and no call is allowed
		errno = codeEnded
		goto fail
	}
	_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
fail:
	code[0] = byte(errno)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(what.result), uintptr(unsafe.Pointer(&code)), 1)
exit:
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 253, 0, 0)
	}
}

// highestDescriptor is the highest file descriptor that is open, where there is no close_range.
func highestDescriptor() (highest int) {
	highest = 1023
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, e := range entries {
			var fd int
			if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
				highest = max(highest, fd)
			}
		}
	}
	return highest
}

// originalLimit is the limit of open files that this process was started with. Go raises its own to the highest there
// is, and gives the original one to processes that it starts, since some programs (those that use select) cannot do
// with more. What it was Go does not tell: a program that Go starts, and which stops before its first instruction,
// shows it. Nil if that is forbidden, or nothing was raised.
func originalLimit() *unix.Rlimit {
	var own, original unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil || own.Cur+1 != own.Max {
		return nil
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"limit"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return nil
	}
	var status syscall.WaitStatus
	wait := func(options int) (err error) {
		for {
			if _, err = syscall.Wait4(pid, &status, options, nil); !errors.Is(err, syscall.EINTR) {
				return err
			}
		}
	}
	got := wait(syscall.WALL) == nil && status.Stopped() && unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &original) == nil
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = wait(syscall.WALL)
	if !got {
		return nil
	}
	return &original
}
