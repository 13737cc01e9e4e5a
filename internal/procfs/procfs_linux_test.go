package procfs_test

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/procfs"
)

func TestAChildIsListedWithItsParent(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, ok := procfs.ReadStat(pid); ok {
			t.Error("it has ended, and has a stat still")
		}
	})
	if !slices.Contains(procfs.Children(procfs.Lists("self")), pid) {
		t.Error("it is not among the children of this process")
	}
	s, ok := procfs.ReadStat(pid)
	own, _ := procfs.ReadStat(os.Getpid())
	if !ok || s.Parent != os.Getpid() || s.Group != own.Group || s.Session != own.Session || s.Started == "" {
		t.Errorf("%+v %v, this process %+v", s, ok, own)
	}
}
