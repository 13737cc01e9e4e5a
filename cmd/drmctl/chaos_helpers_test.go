//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// What the test binary can be besides drmctl.
const (
	asNode  = "__node"  // a server of an etcd cluster
	asLeash = "__leash" // a process of --handler-exec that keeps a connection to the test while it lives
	asBurn  = "__burn"  // a process that uses all CPUs for some seconds
	asNice  = "__nice"  // drmctl with the lowest priority
)

func init() {
	helpers[asNode], helpers[asLeash], helpers[asBurn], helpers[asNice] = runNode, runLeash, runBurn, runNice
}

// runLeash tells a leash which resource it handles, and lives until it is killed or the leash is gone. If it is given a
// folder, it writes its process id there first.
func runLeash(args []string) int {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	defer conn.Close()
	if len(args) > 1 {
		path := filepath.Join(args[1], os.Getenv("DRM_RESOURCE_ID"))
		if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitFailed
		}
	}
	token, _ := strconv.ParseInt(os.Getenv("DRM_TOKEN"), 10, 64) // 0 would show as a token that falls
	hello := journal.Event{
		Action: journal.Handle, Member: os.Getenv("DRM_MEMBER"), Resource: os.Getenv("DRM_RESOURCE_ID"), Token: token,
	}
	if err := json.NewEncoder(conn).Encode(hello); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	_, _ = conn.Read(make([]byte, 1))
	return exitFine
}

// leash records when processes begin and end. However they end, their connections end with them.
func leash(t *testing.T, j *journal.Journal) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				var e journal.Event
				line, err := in.ReadBytes('\n')
				if err != nil || json.Unmarshal(line, &e) != nil {
					return // the process was killed before it did anything
				}
				e.Time = time.Time{}
				j.Record(e)
				_, _ = in.ReadByte() // the process sends nothing more, so this returns when it has ended
				e.Action = journal.Terminate
				j.Record(e)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// runBurn keeps all CPUs busy for as many seconds as it is told, and no longer than a minute.
func runBurn(args []string) int {
	n, _ := strconv.Atoi(args[0])
	over := time.Now().Add(time.Duration(min(n, 60)) * time.Second)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for n := 0; time.Now().Before(over); n++ { // being busy is its purpose
				_ = n
			}
		})
	}
	wg.Wait()
	return exitFine
}

// runNice becomes drmctl with these arguments: a priority belongs to a thread, and the one that calls exec stays.
func runNice(args []string) int {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err == nil {
		err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	}
	if err == nil {
		err = syscall.Exec(self, append([]string{self}, args...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	return exitFailed
}
