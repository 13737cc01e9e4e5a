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

// Go's own way to start a process (os/exec, syscall.ForkExec) suspends the calling thread until exec succeeds
// (CLONE_VFORK), while that thread holds a right to run Go code. If exec hangs, because the program is on a network
// file system that does not answer, the whole guard would hang at its next garbage collection, and the deadlines of all
// its processes would pass. So a guard forks in the plain old way, which copies its small memory, and otherwise does
// what package syscall does.
//
// The runtime has the three functions below for package syscall, and promises to keep them for users like gVisor.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// codeEnded is what a new process writes instead of an errno if its claim has ended.
const codeEnded = 255

// forking is what a new process needs. The four file descriptors are above 3, except as noted.
type forking struct {
	path      string
	args, env []string
	stdin     int   // becomes its standard input
	stdout    int   // becomes its standard output; 1 keeps the guard's
	stderr    int   // becomes its standard error; 2 keeps the guard's
	result    int   // it writes there why it did not become its program
	until     int64 // when its claim ends, in milliseconds of clockNow
	guard     int   // the guard's process id
}

// forker starts processes.
type forker struct {
	probed     bool         // the other fields are set
	limit      *unix.Rlimit // the limit of open files for the processes; nil keeps the guard's own
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

// rawFork makes a process that becomes the program, or else writes to what.result why it did not. highest is the
// highest open file descriptor, or 0 if the kernel has close_range.
//
// The new process has one thread, and nothing of the runtime works in it. Between fork and exec it may call only what
// takes no lock, allocates nothing and does not grow the stack. The function is long because the compiler guarantees
// none of this for the calls of smaller functions, inlined or not; package syscall has its own fork in one function for
// the same reason.
//
//go:noinline
//go:norace
func rawFork(path *byte, args, env []*byte, what *forking, limit *unix.Rlimit, highest int) (int, syscall.Errno) {
	const (
		deathSignal = unix.PR_SET_PDEATHSIG
		sigkill     = uintptr(syscall.SIGKILL)
		boottime    = unix.CLOCK_BOOTTIME // the clock of clockNow
	)
	var ( // all variables are here, because goto must not jump over the declaration of one
		clock    unix.Timespec
		now      int64
		pid, n   uintptr
		errno    syscall.Errno
		code     [1]byte
		flags    = uintptr(syscall.SIGCHLD)
		no, fd   uintptr
		closeAll = highest == 0
	)
	if runtime.GOARCH == "s390x" { // its clone takes the stack before the flags
		flags, no = 0, uintptr(syscall.SIGCHLD)
	}
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, flags, no, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return int(pid), errno
	}
	afterForkInChild()

	// It gets a group of its own. It dies with the guard, which may have died already.
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETPGID, 0, 0, 0); errno != 0 {
		goto fail
	}
	if _, _, errno = syscall.RawSyscall6(syscall.SYS_PRCTL, deathSignal, sigkill, 0, 0, 0, 0); errno != 0 {
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
	// It closes its copies of all pipes of other processes: a pipe ends when its last holder has closed it. Exec would
	// close them too, but exec may hang.
	_, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(what.result), reportFD, syscall.O_CLOEXEC)
	if errno != 0 {
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
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(limit)), 0, 0, 0)
	}
	// The last look at the clock: the claim may have ended meanwhile.
	_, _, errno = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, boottime, uintptr(unsafe.Pointer(&clock)), 0)
	if errno != 0 {
		goto fail
	}
	now = int64(clock.Sec)*1000 + int64(clock.Nsec)/int64(time.Millisecond) //nolint:unconvert // for 32-bit systems
	if now >= what.until {
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

// highestDescriptor returns the highest open file descriptor, or 1023 if that is higher. It is for kernels without
// close_range.
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

// originalLimit returns the limit of open files that this process was started with. Go raises the limit of its own
// process as far as it may, and gives the original limit to the processes that it starts, because some programs (those
// that use select) cannot cope with more. To find the original limit, which Go does not tell, it starts a process that
// stops before its first instruction, and looks at the limit of that. The result is nil if tracing is forbidden, or if
// Go raised nothing.
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
