package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/procfs"
)

// cgroup is a cgroup (version 2) that one life of the command has to itself. A nil cgroup is none: nothing is in it.
type cgroup struct {
	path string
	dir  *os.File
}

// newCgroup makes a cgroup below this process's own. It fails where the system does not let this process do so.
func newCgroup(n int) (*cgroup, error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	removeStale(own)
	c := &cgroup{path: filepath.Join(own, fmt.Sprintf("drm-run-%d-%d", os.Getpid(), n))}
	if err := os.Mkdir(c.path, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	if c.dir, err = os.Open(c.path); err != nil {
		c.remove()
		return nil, fmt.Errorf("open a cgroup: %w", err)
	}
	return c, nil
}

// removeStale removes the cgroups that supervisors which were killed have left, unless a process is in them.
func removeStale(own string) {
	left, _ := filepath.Glob(filepath.Join(own, "drm-run-*-*"))
	for _, path := range left {
		var pid, n int
		if _, err := fmt.Sscanf(filepath.Base(path), "drm-run-%d-%d", &pid, &n); err != nil {
			continue
		}
		if _, alive := procfs.ReadStat(pid); !alive {
			(&cgroup{path: path}).remove()
		}
	}
}

func (c *cgroup) fd() int { return int(c.dir.Fd()) }

// kill kills all processes of the cgroup at one stroke. A kernel before 5.14 cannot do that; then they are killed one
// by one.
func (c *cgroup) kill() {
	if c == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0); err == nil {
		return
	}
	text, _ := os.ReadFile(filepath.Join(c.path, "cgroup.procs"))
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// empty reports whether no process is in the cgroup, nor in one below it. It is false if the system does not say.
func (c *cgroup) empty() bool {
	if c == nil {
		return true
	}
	text, err := os.ReadFile(filepath.Join(c.path, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the cgroup, which only works for an empty one
		return true
	}
	return err == nil && strings.Contains("\n"+string(text), "\npopulated 0\n")
}

// remove removes the cgroup, and those that the command has made below it, unless a process is left there.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	if c.dir != nil {
		_ = c.dir.Close()
		c.dir = nil
	}
	var dirs []string
	_ = filepath.WalkDir(c.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what cannot be read cannot be removed either
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = unix.Rmdir(dirs[i]) // a cgroup that stays does no harm
	}
}

// ownCgroup returns the folder of this process's cgroup.
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the cgroup of this process: %w", err)
	}
	var own string
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = path
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find the cgroups: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if below, err := filepath.Rel(fields[3], own); own != "" && err == nil && filepath.IsLocal(below) {
			return filepath.Join(fields[4], below), nil
		}
	}
	return "", errors.New("the cgroup of this process is of version 1, or not mounted")
}
