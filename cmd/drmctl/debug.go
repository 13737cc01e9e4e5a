package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/listen"
)

const (
	flagAgent = "agent"

	// partTime bounds each part of the archive: one that hangs must not keep the others out.
	partTime = time.Minute
	// mostPart bounds the size of a part that an agent sends.
	mostPart = 64 << 20
)

const debugDescription = `
The archive is a .tar.gz with what helps to find out what is wrong: the state at one revision (dump), status, doctor,
verify, members, the events of the last hour that etcd still has, versions, and with --agent what an agent tells of
itself: whether it is alive and ready, and its profiles. It has no data of resources, and no secrets; ids of resources
and members, and the errors of handlers, are in it. What could not be had is listed with the reason in manifest.json.
Interrupted, the command completes the archive with what it has.

Examples:
   drmctl --app feeds debug
   drmctl --app feeds debug --file feeds.tar.gz --agent http://127.0.0.1:4711
`

func debugCommand() *cli.Command {
	const name = "debug"
	return &cli.Command{
		Name:        name,
		Usage:       "write one archive with all that a report of a bug needs",
		Description: strings.TrimSpace(debugDescription),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: flagFile, EnvVars: commandEnv(name, flagFile),
				Usage: "the `FILE` to write, which must not exist (default: drm-debug-APP-TIME.tar.gz)",
			},
			&cli.StringFlag{
				Name: flagAgent, EnvVars: commandEnv(name, flagAgent),
				Usage: "`URLS` at which agents listen (--listen), separated by commas: http://HOST:PORT, or unix:/PATH",
			},
		},
		Action: func(c *cli.Context) error {
			err := errors.Join(noArguments(c), checkOutput(c))
			if err != nil {
				return err
			}
			app, err := appName(c)
			if err != nil {
				return err
			}
			agents, err := agentURLs(c)
			if err != nil {
				return err
			}
			file := c.String(flagFile)
			if file == "" {
				file = fmt.Sprintf("drm-debug-%s-%s.tar.gz", fileName(app), time.Now().UTC().Format("20060102-150405"))
			}
			return writeArchive(c, file, slices.Concat(commandParts(c), agents))
		},
	}
}

// fileName makes of an id what may be a part of a file's name.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_.", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, id)
}

// part is one file of the archive.
type part struct {
	name string
	take func(ctx context.Context, out, notes io.Writer) error
}

// judging are the commands that end with exit code 1 where they have found something wrong, and printed it.
var judging = []string{"doctor", "verify"}

// commandParts are what commands of drmctl print.
func commandParts(c *cli.Context) []part {
	global := globalArguments(c)
	all := []part{}
	for _, p := range []struct {
		file string
		args []string
	}{
		{"version.json", []string{"version", "-o", "json"}},
		{"status.txt", []string{"status", "-o", "wide"}},
		{"status.json", []string{"status", "-o", "json"}},
		{"members.txt", []string{"members", "-o", "wide"}},
		{"members.json", []string{"members", "-o", "json"}},
		{"doctor.json", []string{"doctor", "-o", "json"}},
		{"verify.json", []string{"verify", "-o", "json", "--" + flagSettle, "2s"}},
		{"events.jsonl", []string{"events", "--" + flagSince, "1h", "-o", "json"}},
		{"dump.jsonl", []string{"dump"}},
	} {
		all = append(all, part{p.file, func(ctx context.Context, out, notes io.Writer) error {
			code := run(ctx, slices.Concat(global, p.args), strings.NewReader(""), out, notes)
			if code == exitFine || code == exitFailed && slices.Contains(judging, p.args[0]) && ctx.Err() == nil {
				return nil
			}
			return fmt.Errorf("drmctl %s ended with exit code %d", p.args[0], code)
		}})
	}
	return all
}

// globalArguments are the flags of drmctl that stand on the command line. What the environment says, the commands find
// there themselves.
func globalArguments(c *cli.Context) []string {
	var args []string
	values, _ := c.App.Metadata[metaTyped].(map[string]string)
	for name, f := range spellings(c.App.Flags) {
		value, typed := values[name]
		if !typed || slices.Contains(f.Names(), flagOutput) {
			continue
		}
		args = append(args, "--"+name+"="+value)
	}
	return args
}

// agentURLs returns the parts that the agents of --agent tell.
func agentURLs(c *cli.Context) ([]part, error) {
	var all []part
	for i, text := range strings.Split(c.String(flagAgent), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		client, base, err := listen.Client(text)
		if err != nil {
			return nil, badFlag(flagAgent, text, err.Error())
		}
		for _, from := range []string{
			"/healthz", "/readyz", "/v1/profiles/goroutine", "/v1/profiles/heap", "/v1/profiles/allocs",
			"/v1/profiles/mutex", "/v1/profiles/cpu?seconds=5",
		} {
			file, _, _ := strings.Cut(path.Base(from), "?")
			all = append(all, part{fmt.Sprintf("agent-%d/%s", i+1, file), fetchPart(client, base+from)})
		}
	}
	return all, nil
}

// fetchPart returns what fetches a URL of an agent. An answer of a probe counts whatever its code is.
func fetchPart(client *http.Client, url string) func(ctx context.Context, out, notes io.Writer) error {
	return func(ctx context.Context, out, _ io.Writer) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(request)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(out, io.LimitReader(resp.Body, mostPart)); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}

// partJSON is what the manifest says of a part.
type partJSON struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	TookMS int64  `json:"took_ms"`
	Notes  string `json:"notes"` // what the command printed on stderr
	Error  string `json:"error"` // why the part is not whole
}

// debugJSON is part of the JSON contract.
type debugJSON struct {
	File   string     `json:"file"`
	Whole  bool       `json:"whole"` // every part is there, and none has an error
	Parts  []partJSON `json:"parts"`
	Schema int        `json:"schema"`
}

// writeArchive writes all parts into a file. Where the context ends, the parts that are missing say so.
func writeArchive(c *cli.Context, name string, parts []part) (err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("--%s: %w; name another file", flagFile, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed := gzip.NewWriter(file)
	archive := tar.NewWriter(packed)
	outcome := debugJSON{File: name, Whole: true, Schema: 1, Parts: []partJSON{}}
	for _, p := range parts {
		told, err := addPart(c.Context, archive, p)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		outcome.Whole = outcome.Whole && told.Error == ""
		outcome.Parts = append(outcome.Parts, told)
	}
	manifest, err := json.MarshalIndent(outcome.Parts, "", "  ")
	if err == nil {
		err = addFile(archive, "manifest.json", int64(len(manifest)), strings.NewReader(string(manifest)))
	}
	if err := errors.Join(err, archive.Close(), packed.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := showDebug(c, outcome); err != nil {
		return err
	}
	if c.Context.Err() != nil {
		return fmt.Errorf("interrupted: %s has what there was until then", name)
	}
	return nil
}

// addPart adds a part to the archive. Its error is that the archive cannot be written.
func addPart(ctx context.Context, archive *tar.Writer, p part) (partJSON, error) {
	told := partJSON{File: p.name}
	if ctx.Err() != nil {
		told.Error = "the command was interrupted"
		return told, nil
	}
	kept, err := os.CreateTemp("", "drm-debug-*") // a part may be large, and tar wants to know its size first
	if err != nil {
		return told, err
	}
	defer func() { _, _ = kept.Close(), os.Remove(kept.Name()) }()
	began := time.Now()
	taking, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	var notes strings.Builder
	if err := p.take(taking, kept, &notes); err != nil {
		told.Error = err.Error()
	}
	told.TookMS, told.Notes = time.Since(began).Milliseconds(), notes.String()
	if told.Bytes, err = kept.Seek(0, io.SeekCurrent); err != nil {
		return told, err
	}
	if _, err := kept.Seek(0, io.SeekStart); err != nil {
		return told, err
	}
	return told, addFile(archive, p.name, told.Bytes, kept)
}

func addFile(archive *tar.Writer, name string, size int64, from io.Reader) error {
	header := &tar.Header{
		Name: "drm-debug/" + name, Mode: 0o600, Size: size, ModTime: time.Now(), Format: tar.FormatPAX,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, from)
	return err
}

func showDebug(c *cli.Context, outcome debugJSON) error {
	return show(c, outcome, outcome.File, func(p *output.Page) {
		for _, told := range outcome.Parts {
			state := "ok"
			if told.Error != "" {
				state = told.Error
			}
			p.Row(told.File, state)
		}
		p.Line("wrote %s", outcome.File)
	})
}
