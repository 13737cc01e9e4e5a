package appconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/deed"
)

// Task is something besides a change of the number of shards that is done to a whole app while nobody may use it.
// Meanwhile, as then, the config has a barrier in its place, and the key keys.Layout.Reshard says what is being done:
// every program that knows barriers looks there.
type Task string

// The tasks.
const (
	Deleting Task = "delete" // everything below the app's root is being deleted
	Loading  Task = "load"   // the app is being loaded from a dump
)

// ErrUnfinished says that an app is being deleted, or loaded from a dump. A *TaskError matches it.
var ErrUnfinished = errors.New("the app is not usable")

// TaskError says that an app is being deleted, or loaded from a dump, or that this was interrupted.
type TaskError struct{ Task Task }

func (e *TaskError) Error() string {
	switch e.Task {
	case Deleting:
		return "the app is being deleted, or that was interrupted: run `drmctl app delete` again to finish that"
	case Loading:
		return "the app is being loaded from a dump, or that was interrupted: run `drmctl load` again to begin that " +
			"anew, or `drmctl app delete`"
	default:
		return fmt.Sprintf("something is being done to the app (%q) that this program does not know: "+
			"upgrade this program", string(e.Task))
	}
}

// Is makes errors.Is find ErrUnfinished.
func (e *TaskError) Is(target error) bool { return target == ErrUnfinished }

// TaskBarrier returns the value that the config key has during a task.
func TaskBarrier(t Task) string { return encode(value{Schema: barrier, Task: t}) }

// TaskMarker returns the value of the key which says that a task is in progress. run tells one run from others, and
// by says whose it is.
func TaskMarker(t Task, run string, by deed.Deed) string {
	b, err := json.Marshal(taskMarker{t, run, by})
	if err != nil { // of a time beyond the year 9999
		by.Since = time.Time{}
		b, _ = json.Marshal(taskMarker{t, run, by})
	}
	return string(b)
}

type taskMarker struct {
	Task Task   `json:"task"`
	Run  string `json:"run"`
	deed.Deed
}

// marker is the value of the key that says what is being done to the whole app.
type marker struct {
	resharding

	Task Task `json:"task"`
}

// Unfinished makes the error of what is in progress, a *TaskError or a *ReshardError, by the value of the key that
// says so.
func Unfinished(value []byte) error {
	var m marker
	switch err := json.Unmarshal(value, &m); {
	case err != nil:
		return &ReshardError{}
	case m.Task != "":
		return &TaskError{m.Task}
	default:
		return &ReshardError{From: m.From, To: m.To}
	}
}

// BarrierOf returns the task whose barrier a config key has, by the key's value; "": it is no barrier of a task.
func BarrierOf(config []byte) Task {
	var v value
	if json.Unmarshal(config, &v) != nil || v.Schema != barrier {
		return ""
	}
	return v.Task
}
