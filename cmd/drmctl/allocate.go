package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/retriever"
)

const (
	flagID     = "id"
	flagData   = "data"
	flagCreate = "create"
)

// maxData bounds what --data and --source-body read. It is far above what etcd accepts by default (1.5 MiB), so that
// etcd itself refuses what is too large for it.
const maxData = 64 << 20

const allocateDescription = `
Works whichever members are up, or none: it is handled as soon as one can. An app that does not exist is made
by its first member, or with --create; else the exit code is 3.

With --file, or with the argument -, it takes any number of resources: one JSON object with an "id" on each line, or
what a source answers, {"data":[…]}. It goes on after those that fail, names each on stderr, and ends with exit
code 1 if there is any, or 5 if all are over the quota. What is as it should be already is left alone, so that it
can be run again. --wait is for one resource only.

Examples:
   drmctl --app feeds allocate --id feed-42
   drmctl --app feeds allocate --data '{"id":"feed-42","url":"https://example.org"}' --wait
   echo '{"id":"feed-42"}' | drmctl --app feeds allocate --data -
   drmctl --app feeds allocate --file feeds.jsonl
`

func allocateCommand() *cli.Command {
	const name = "allocate"
	return &cli.Command{
		Name:        name,
		Usage:       "add resources to the catalogue, change their data, or wake those that were deallocated",
		ArgsUsage:   "[-]",
		Description: strings.TrimSpace(allocateDescription),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{
				Name: flagID, EnvVars: commandEnv(name, flagID),
				Usage: "the `ID` of the resource; may be left out where --data has an \"id\"",
			},
			&cli.StringFlag{
				Name: flagData, EnvVars: commandEnv(name, flagData),
				Usage: "the resource, a JSON object: `JSON|@FILE|-` (- reads stdin; default: {\"id\":ID})",
			},
			fileFlag(name, "take the resources from `FILE`, one JSON object on each line; - is stdin"),
			numberIDsFlag(name),
			&cli.BoolFlag{
				Name: flagCreate, EnvVars: commandEnv(name, flagCreate),
				Usage: "make the app, if it does not exist",
			},
			&cli.IntFlag{
				Name: flagShards, EnvVars: commandEnv(name, flagShards), DefaultText: "1024 for a new app",
				Usage: "with --create, how many shards the app gets, for good: 1 to 4096",
			},
		}, quotaFlags(func(flag string) []string { return commandEnv(name, flag) }), deedFlags(name),
			waitFlags(name, "a member handles it")),
		Action: func(c *cli.Context) error {
			many, err := bulkInput(c)
			if err == nil && many == "" {
				if c.NArg() > 0 {
					err = usagef("allocate takes no argument but -, got %q; the id goes with --%s",
						c.Args().First(), flagID)
				}
			}
			err = errors.Join(
				err, checkWait(c), checkQuota(c),
				numberInRange(c, flagShards, 1, keys.MaxShards), onlyWith(c, flagShards, flagCreate),
			)
			if err != nil {
				return err
			}
			var r drm.Resource
			if many == "" {
				if r, err = resourceOf(c); err != nil {
					return err
				}
			}
			cfg := drm.ClientConfig{
				Create:          c.Bool(flagCreate),
				MaxAppResources: c.Int(flagMaxAppResources), MaxResourceBytes: c.Int(flagMaxResourceBytes),
			}
			if cfg.Create {
				cfg.Shards = c.Int(flagShards)
			}
			if many != "" {
				return allocateMany(c, cfg, many)
			}
			return withClientOf(c, cfg, func(ctx context.Context, client *drm.Client) error {
				return allocate(ctx, c, client, r)
			})
		},
	}
}

func allocate(ctx context.Context, c *cli.Context, client *drm.Client, r drm.Resource) error {
	if err := client.Allocate(ctx, r); err != nil {
		return allocateError(c, err)
	}
	if c.Bool(flagWait) {
		return waiting(c, "handled", func(ctx context.Context) error {
			a, err := client.Wait(ctx, r.ID)
			if err != nil {
				return err
			}
			return showAssignment(c, a)
		})
	}
	return showAllocated(c, r.ID)
}

// allocateError tells what would help where there is no app, or names the flag that is to blame.
func allocateError(c *cli.Context, err error) error {
	if errors.Is(err, drm.ErrNoApp) {
		hint := fmt.Sprintf("start a member of it first, or give --%s (with --%s N)", flagCreate, flagShards)
		return &hintedError{err, hint}
	}
	return flagsOf(err, c)
}

// allocatedJSON is part of the JSON contract.
type allocatedJSON struct {
	Resource  string `json:"resource"`
	Allocated bool   `json:"allocated"`
}

func showAllocated(c *cli.Context, id string) error {
	outcome := allocatedJSON{id, true}
	return show(c, outcome, id, func(p *output.Page) { p.Line("allocated %s", id) })
}

// resourceOf is the resource that --id and --data describe together.
func resourceOf(c *cli.Context) (drm.Resource, error) {
	id, r := c.String(flagID), drm.Resource{}
	if !c.IsSet(flagData) {
		if !c.IsSet(flagID) {
			return r, usagef("allocate needs --%s, --%s with an \"id\", or --%s", flagID, flagData, flagFile)
		}
		r.ID = id
		return r, checkResource(r)
	}
	data, err := readData(c)
	if err != nil {
		return r, err
	}
	if c.IsSet(flagID) {
		if own, err := drm.ParseResource(data); err == nil && typed(c, flagData) && !typed(c, flagID) {
			return own, nil // the user typed the data, and the environment has the other id
		}
		r = drm.Resource{ID: id, Data: data}
		return r, checkResource(r)
	}
	r, err = retriever.ParseItem(data, retriever.DecodeOptions{NumberIDs: c.Bool(flagNumberIDs)})
	return r, usageOf(err)
}

func checkResource(r drm.Resource) error { return usageOf(r.Validate()) }

// usageOf turns an error about what the user typed into a usageError that names the flags.
func usageOf(err error) error {
	var input *drm.InputError
	if !errors.As(err, &input) {
		return err
	}
	switch input.Field {
	case "id":
		return badFlag(flagID, input.Value, input.Want)
	case "data.id":
		return badFlag(flagData+" id", input.Value, input.Want)
	default:
		return badFlag(flagData, input.Value, input.Want)
	}
}

// readData returns the JSON that --data contains or refers to.
func readData(c *cli.Context) (json.RawMessage, error) {
	text := c.String(flagData)
	if path, ok := strings.CutPrefix(text, "@"); ok {
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("--%s: %w", flagData, err)
		}
		defer f.Close()
		return readBounded(f, flagData, path)
	}
	if text == "-" {
		return readBounded(c.App.Reader, flagData, "stdin")
	}
	return jsontext.WithoutMark([]byte(text)), nil
}

func readBounded(r io.Reader, flag, name string) (json.RawMessage, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("--%s: reading %s: %w", flag, name, err)
	}
	if len(data) > maxData {
		return nil, usagef("--%s: %s has more than %d bytes", flag, name, maxData)
	}
	return jsontext.WithoutMark(data), nil
}
