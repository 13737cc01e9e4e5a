package drm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/backup"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// AppState says whether an app can be used.
type AppState string

// The states of apps.
const (
	AppUsable     AppState = "usable"
	AppResharding AppState = "resharding" // its number of shards is being changed, or that was interrupted
	AppDeleting   AppState = "deleting"   // it is being deleted, or that was interrupted
	AppLoading    AppState = "loading"    // it is being loaded from a dump, or that was interrupted
	AppNewer      AppState = "newer"      // this program does not know the version of what is in etcd
	AppBroken     AppState = "broken"     // its config key is missing, or is not understood
)

// AppInfo is what is known of an app without reading what is in it.
type AppInfo struct {
	Name    string
	State   AppState
	Shards  int   // 0 unless it is usable
	Members int   // how many members are live, or joining
	Created int64 // etcd's revision at which the app was created; 0 unless it is usable
}

// AppDetails are AppInfo, and what there is of each kind.
type AppDetails struct {
	AppInfo

	Prefix      string
	Revision    int64 // etcd's revision at which all of this was read
	Coordinator string
	Resources   int // entries of the catalogue, also suspended ones
	Claims      int
	Orders      int  // drains, cordons, weights, pins, and moves of resources
	Quarantined int  // records of quarantine
	Source      bool // a source's record is there
	Keys        int  // all keys of the app
}

// AppList lists the apps below the prefix by name, as it finds them, from the given name on; from may be empty. For
// each app it makes two small requests. After an error it ends.
func (c *Client) AppList(ctx context.Context, from string) iter.Seq2[AppInfo, error] {
	return func(yield func(AppInfo, error) bool) {
		for name, err := range c.anyReader().EachApp(ctx, c.cfg.Prefix, from) {
			if err != nil {
				yield(AppInfo{}, err)
				return
			}
			r := c.anyReader()
			r.Layout = keys.New(c.cfg.Prefix, name)
			info, err := appInfo(ctx, name, r)
			if err != nil {
				yield(AppInfo{}, fmt.Errorf("app %q: %w", name, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// WatchApps yields what AppList does, and then each app of which that changes, as WatchAssignments says, and no more
// often than once in a second. It watches everything below the prefix. A WatchGone is an app that has no key any more.
func (c *Client) WatchApps(ctx context.Context, lost func(error)) iter.Seq2[Watched[AppInfo], error] {
	return inWords(picture.WatchApps(ctx, c.anyReader(), c.cfg.Prefix, appInfoOf, unlessNil(lost)),
		func(a AppInfo) AppInfo { return a })
}

func appInfo(ctx context.Context, name string, r *picture.Reader) (AppInfo, error) {
	found, err := r.App(ctx)
	if err != nil {
		return AppInfo{}, err
	}
	return appInfoOf(name, found), nil
}

func appInfoOf(name string, found picture.App) AppInfo {
	info := AppInfo{Name: name, Members: found.Members}
	info.State = appState(found.Err)
	if info.State == AppUsable {
		info.Shards, info.Created = found.Config.Shards, found.Config.CreateRevision
	}
	return info
}

// appState is the state of an app whose config could not be read because of err.
func appState(err error) AppState {
	var task *appconfig.TaskError
	switch {
	case err == nil:
		return AppUsable
	case errors.Is(err, ErrResharding):
		return AppResharding
	case errors.As(err, &task) && task.Task == appconfig.Deleting:
		return AppDeleting
	case errors.As(err, &task) && task.Task == appconfig.Loading:
		return AppLoading
	case errors.Is(err, ErrSchema) || task != nil:
		return AppNewer
	default:
		return AppBroken
	}
}

// DescribeApp counts what the app has, without reading it. It also describes an app that is not usable. ErrNoApp says
// that there is no such app.
func (c *Client) DescribeApp(ctx context.Context) (AppDetails, error) {
	r := c.anyReader()
	info, err := appInfo(ctx, c.cfg.App, r)
	if err != nil {
		return AppDetails{}, fmt.Errorf("describe the app: %w", err)
	}
	n, err := r.Count(ctx)
	if err != nil {
		return AppDetails{}, fmt.Errorf("describe the app: %w", err)
	}
	if n.Keys == 0 {
		return AppDetails{}, c.noApp(appconfig.ErrNoApp) // to describe an app is also part of other deeds
	}
	return AppDetails{
		AppInfo: info, Prefix: c.cfg.Prefix, Revision: n.Revision, Coordinator: n.Coordinator, Resources: n.Resources,
		Claims: n.Claims, Orders: n.Orders, Quarantined: n.Quarantined, Source: n.Source, Keys: n.Keys,
	}, nil
}

// CreateApp creates the app, which its first member would do otherwise. shards is how many shards it gets, 1 to 4096; 0
// for 1024, or as many as it has. It returns how many it has, and whether this call has created it. An app that exists
// with another number of shards is an *InputError.
func (c *Client) CreateApp(ctx context.Context, shards int) (has int, created bool, err error) {
	if shards < 0 || shards > keys.MaxShards {
		return 0, false, fmt.Errorf("create the app: %w", &InputError{
			"Shards", strconv.Itoa(shards), fmt.Sprintf("1 to %d", keys.MaxShards),
		})
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	before, err := appconfig.Read(asking, c.client, c.layout)
	if err != nil && !errors.Is(err, appconfig.ErrNoApp) {
		return 0, false, fmt.Errorf("create the app: %w", etcd.Unreachable(ctx, err))
	}
	config, err := appconfig.OpenAs(asking, c.client, c.layout, shards, DefaultShards, c.origin)
	var other *appconfig.ShardsError
	switch {
	case errors.As(err, &other):
		return other.Has, false, shardsInput(other)
	case err != nil:
		return 0, false, fmt.Errorf("create the app: %w", etcd.Unreachable(ctx, err))
	}
	return config.Shards, config.CreateRevision != before.CreateRevision, nil
}

// DeleteApp deletes everything that the app has, so that it does not exist any more, while all of its members are
// stopped. While that is in progress, nothing can open the app: Start and all methods of a Client return ErrUnfinished.
// Where it is interrupted, calling it again finishes it; it also deletes what an interrupted Load has left. It returns
// how many keys it has deleted, also with an error; progress, unless nil, is called with that number as it grows.
//
// Errors: ErrInUse while a member lives, or has left claims or a reservation; ErrNoApp; ErrResharding; ErrSchema of an
// app of a newer version; ErrUnreachable. After any other error than the first four, it has to be called again.
func (c *Client) DeleteApp(ctx context.Context, progress func(keys int64)) (deleted int64, err error) {
	done, err := c.whole().Delete(ctx, progress)
	c.forget()
	if err != nil {
		return done.Keys, fmt.Errorf("delete the app: %w", c.wholeError(err))
	}
	return done.Keys, nil
}

// whole is the app for what is done to it as a whole.
func (c *Client) whole() *backup.App {
	return &backup.App{Client: c.client, Layout: c.layout, Timeout: c.cfg.Etcd.CommandTimeout, Origin: c.origin}
}

// forget makes the client read the app's config again, which may be another one.
func (c *Client) forget() {
	c.opened.mu.Lock()
	defer c.opened.mu.Unlock()
	c.opened.config = appconfig.Config{}
}

func (c *Client) wholeError(err error) error {
	if errors.As(err, new(*backup.InUseError)) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return c.noApp(err)
}

// DumpOptions says what a dump has.
type DumpOptions struct {
	// Data makes the resources' data part of the dump, which may be secret. Without it, a dump has their size and a
	// digest instead, and cannot be loaded.
	Data bool
}

// Dumped is what a dump has.
type Dumped struct {
	Revision  int64 // etcd's revision at which all of it was read
	Shards    int
	Keys      int
	Resources int
	Claims    int
	Members   int
}

// Dump writes the whole state of the app, as it was at one revision, to w: lines of JSON, of which docs/cli.md tells
// more. It reads a few shards ahead, so that memory stays bounded. Passwords in URLs are hidden, apart from those in
// the resources' data. It also dumps an app that is not usable; that dump cannot be loaded.
//
// Errors: ErrNoApp; ErrCompacted where etcd did not keep the revision for long enough, and a part was written; those of
// w; ErrUnreachable. Without the last line, which it writes only where all is well, a dump is not valid.
func (c *Client) Dump(ctx context.Context, w io.Writer, o DumpOptions) (Dumped, error) {
	h, f, err := c.whole().Dump(ctx, backup.Header{App: c.cfg.App, Prefix: c.cfg.Prefix, Data: o.Data}, w)
	done := Dumped{
		Revision: h.Revision, Shards: h.Shards, Keys: f.Keys, Resources: f.Resources, Claims: f.Claims,
		Members: f.Members,
	}
	if err == nil {
		return done, nil
	}
	if errors.As(err, new(*backup.CompactedError)) {
		err = fmt.Errorf("%w: %w", ErrCompacted, err)
	}
	return done, fmt.Errorf("dump the app: %w", c.noApp(err))
}

// LoadOptions says how a dump is loaded.
type LoadOptions struct {
	// DryRun only checks the dump, and that the app is empty.
	DryRun bool
	// WithoutData loads a dump that has no data of resources: they have nothing but their ids then. Without it, such a
	// dump is refused.
	WithoutData bool
}

// Loaded is what the load of a dump has restored.
type Loaded struct {
	App       string // whose dump it is
	Revision  int64  // at which it was made, by the etcd of that time
	Shards    int
	Resources int // entries of the catalogue, also suspended ones
	Orders    int // drains, cordons, weights, pins, moves of shards and of resources
	Others    int // records of quarantine, members' slots, exceptions to the ring, and the like
	Left      int // keys that were not restored: members, claims, orders that end by themselves, and the like
	Ignored   int // keys that are not understood, and were not restored
}

// Load makes the app of a dump, which may be one of another app or of another etcd. The app must not exist, or have
// nothing yet. The catalogue, quarantine, orders, and what keeps the placement are restored, so that members with the
// same ids get the same shards; what lives on a lease is not.
//
// All is restored or nothing: an invalid dump leaves the app as it was. Until it is done, nothing can open the app, as
// with DeleteApp. Where it is interrupted, calling it again begins anew, and DeleteApp gives it up.
//
// Errors: ErrBadDump for a dump that is not whole, was changed, or cannot be loaded by this program; ErrRedacted for
// one without data; ErrNotEmpty; ErrInUse; ErrUnfinished while the app is being deleted; ErrResharding; ErrUnreachable.
func (c *Client) Load(ctx context.Context, r io.Reader, o LoadOptions) (Loaded, error) {
	done, err := c.whole().Load(ctx, r, backup.LoadOptions{
		DryRun: o.DryRun, WithoutData: o.WithoutData, Now: time.Now(),
	})
	c.forget()
	loaded := Loaded{
		App: done.Header.App, Revision: done.Header.Revision, Shards: done.Header.Shards, Resources: done.Resources,
		Orders: done.Orders, Others: done.Others, Left: done.Left, Ignored: done.Ignored,
	}
	if err == nil {
		return loaded, nil
	}
	if errors.As(err, new(*backup.DumpError)) {
		err = fmt.Errorf("%w: %w", ErrBadDump, err)
	}
	return loaded, fmt.Errorf("load the dump: %w", c.wholeError(err))
}
