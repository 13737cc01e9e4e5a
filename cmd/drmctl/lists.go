package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const flagIDPrefix = "id-prefix"

// partFlags are the flags of a list that say which part of the app it is about. Only that part is read.
func partFlags(command string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagShard, EnvVars: commandEnv(command, flagShard),
			Usage: "only what is in the shards with these `NUMBERS`, separated by commas",
		},
		&cli.StringFlag{
			Name: flagIDPrefix, EnvVars: commandEnv(command, flagIDPrefix),
			Usage: "only resources whose ids begin with this `TEXT`",
		},
		watchFlag(command),
	}
}

// shardNumbers returns the shards that --shard names; nil: it is not given.
func shardNumbers(c *cli.Context) (numbers []int, err error) {
	text := c.String(flagShard)
	if !c.IsSet(flagShard) {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(one))
		if err != nil || n < 0 || n >= keys.MaxShards {
			want := fmt.Sprintf("numbers from 0 to %d, with commas between", keys.MaxShards-1)
			return nil, badFlag(flagShard, text, want)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// flagOfShard turns an error of the library about the number of a shard into one about --shard.
func flagOfShard(err error) error {
	var input *drm.InputError
	if errors.As(err, &input) && input.Field == "Shards" {
		return badFlag(flagShard, input.Value, input.Want)
	}
	return err
}

// watchedJSON is part of the JSON contract: what --watch prints in a line. T is the JSON of an item, which is null
// where a list begins or ends.
type watchedJSON[T any] struct {
	Change   string `json:"change"`
	Revision int64  `json:"revision"`
	Item     *T     `json:"item"`
}

func watchedOf[T, J any](x drm.Watched[T], object func(T) J) watchedJSON[J] {
	one := watchedJSON[J]{Change: string(x.Kind), Revision: x.Revision}
	if hasItem(x) {
		item := object(x.Item)
		one.Item = &item
	}
	return one
}

// changesView is how --watch prints changes of what a view shows.
func changesView[T, J any](of output.View[T], object func(T) J) output.View[drm.Watched[T]] {
	v := output.View[drm.Watched[T]]{
		Columns: []output.Column[drm.Watched[T]]{
			{Title: "CHANGE", Cell: func(x drm.Watched[T]) any { return x.Kind }, Whole: true},
		},
		Object: func(x drm.Watched[T]) any { return watchedOf(x, object) },
		Name:   func(x drm.Watched[T]) string { return fmt.Sprint(of.Columns[0].Cell(x.Item)) },
	}
	for _, column := range of.Columns {
		v.Columns = append(v.Columns, output.Column[drm.Watched[T]]{
			Title: column.Title, Wide: column.Wide, Whole: column.Whole,
			Exact: column.Exact, Spare: column.Spare,
			Cell: func(x drm.Watched[T]) any { return column.Cell(x.Item) },
		})
	}
	v.Columns = append(v.Columns, output.Column[drm.Watched[T]]{
		Title: "REVISION", Wide: true, Cell: func(x drm.Watched[T]) any { return x.Revision },
	})
	return v
}

func hasItem[T any](x drm.Watched[T]) bool {
	return x.Kind != drm.WatchListBegins && x.Kind != drm.WatchListEnds
}

const (
	// listedAtOnce is how many items of a watch's list are printed at once, at most, and listedWithin for how long the
	// first of them waits for others. Changes are printed as they come.
	listedAtOnce = 256
	listedWithin = 100 * time.Millisecond
)

// watchOf is what a watch of the library shows.
type watchOf[T any] = iter.Seq2[drm.Watched[T], error]

// printChanges prints what a watch shows until the command is interrupted, which is the usual end.
func printChanges[T any](
	c *cli.Context, view output.View[drm.Watched[T]],
	watch func(ctx context.Context, lost func(error)) watchOf[T],
) error {
	return following(c, func(ctx context.Context, lost func(error)) error {
		return printEach(c, view, watch(ctx, lost))
	})
}

func printEach[T any](
	c *cli.Context, view output.View[drm.Watched[T]], changes watchOf[T],
) error {
	stream := view.Follow(printer(c))
	bare := isTable(c) || formatOf(c) == output.Name // people, and who wants ids, need not know where a list ends
	var waiting []drm.Watched[T]
	var since time.Time
	for change, err := range changes {
		if err != nil {
			return errors.Join(stream.Add(waiting...), flagOfShard(err))
		}
		if hasItem(change) || !bare {
			waiting = append(waiting, change)
		}
		if len(waiting) == 1 {
			since = time.Now()
		}
		if change.Kind == drm.WatchListed && len(waiting) < listedAtOnce && time.Since(since) < listedWithin {
			continue
		}
		if err := stream.Add(waiting...); err != nil {
			return err
		}
		waiting = waiting[:0]
	}
	return nil
}
