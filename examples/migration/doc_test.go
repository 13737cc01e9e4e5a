package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const doc = "../../docs/migration.md"

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// TestTheDocHasTheTestedCode compares each block of code in docs/migration.md with the files beside this one, which the
// other tests run.
func TestTheDocHasTheTestedCode(t *testing.T) {
	code := map[string]string{}
	for language, pattern := range map[string]string{"go": "*.go", "js": "node/*.mjs"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			code[language] += read(t, file)
		}
	}
	blocks := regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(read(t, doc), -1)
	if len(blocks) < 7 {
		t.Errorf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(code[block[1]], block[2]) {
			t.Errorf("no file has this block of %s:\n%s", block[1], block[2])
		}
	}
}

// TestTheDocNamesTestsThatExist looks for the tests that docs/migration.md names.
func TestTheDocNamesTestsThatExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			tests.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(read(t, doc), -1)
	if len(names) < 15 {
		t.Errorf("%d names", len(names))
	}
	for _, name := range names {
		if !strings.Contains(tests.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("there is no %s", name[1])
		}
	}
}

// TestTheDocsCommandsAreUnderstood runs the commands of docs/migration.md without an etcd: exit code 4 says that they
// got as far as that, and 2 that a flag is wrong.
func TestTheDocsCommandsAreUnderstood(t *testing.T) {
	drmctl := buildDrmctl(t)
	commands := regexp.MustCompile("\n    drmctl (.*)").FindAllStringSubmatch(read(t, doc), -1)
	if len(commands) != 3 {
		t.Errorf("commands: %q", commands)
	}
	for _, command := range commands {
		if command[1] == "etcd" {
			continue // this command would not end
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command[1], -1)
		for i := range args {
			args[i] = strings.Trim(args[i], "'")
		}
		cmd := exec.CommandContext(ctx, drmctl, append(args, "--endpoints", "127.0.0.1:1", "--dial-timeout", "50ms")...)
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 4 {
			t.Errorf("drmctl %s: %v: %s", command[1], err, out)
		}
	}
}
