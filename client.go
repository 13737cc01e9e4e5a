package drm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Client looks at an app and operates it, without being a member. NewClient makes one. Its methods are safe for use
// from any goroutine. Each returns an error that matches ErrUnreachable where etcd does not answer within
// CommandTimeout.
//
// An app that does not exist yet has no members and no resources, and a method that would change it returns ErrNoApp.
// Its first member creates it; so does an Allocate, where ClientConfig.Create allows that. While the number of
// shards of the app is being changed (Reshard), all methods that need it return ErrResharding.
type Client struct {
	cfg    ClientConfig
	client *clientv3.Client
	done   func() error // ends the client's use of the connection
	layout keys.Layout

	origin deed.Origin // who makes changes, where they do not say so themselves
	opened *opened     // shared with the clients of As
}

// opened is what is known of the app's config.
type opened struct {
	mu     sync.Mutex
	config appconfig.Config // zero until it is known; only Reshard changes it
}

// NewClient connects to etcd. Errors: an *InputError for a bad config, ErrUnreachable where etcd does not answer within
// DialTimeout.
func NewClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	layout := keys.New(cfg.Prefix, cfg.App)
	client, done, err := cfg.Etcd.connect(ctx, layout.Config(), false)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, client: client, done: done, layout: layout, opened: new(opened)}, nil
}

// As returns a client of the same app, on the same connection, whose changes are recorded with who makes them, and why:
// texts for people, of at most 500 bytes without control characters; empty ones say nothing. Events and descriptions
// tell it (Event.OrderedBy), for as long as etcd has its history. That holds for every method that changes something,
// such as Undrain, Allocate and DeleteApp. OrderOptions that say something themselves have the last word. Without As,
// only what is said by OrderOptions is recorded. The client need not be closed.
func (c *Client) As(by, why string) (*Client, error) {
	if err := (OrderOptions{By: by, Why: why}).Validate(); err != nil {
		return nil, err
	}
	as := *c
	as.origin, as.done = deed.Origin{By: by, Why: why}, func() error { return nil }
	return &as, nil
}

// said returns options that also say what As does.
func (c *Client) said(o OrderOptions) OrderOptions {
	o.By, o.Why = cmp.Or(o.By, c.origin.By), cmp.Or(o.Why, c.origin.Why)
	return o
}

// Close closes the connection to etcd, unless the caller brought it, or it is shared (EtcdConfig.Connection). It is
// idempotent.
func (c *Client) Close() error {
	if err := c.done(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd: %w", err)
	}
	return nil
}

// open returns the app's config. Where the app does not exist, it creates it with create, and else returns
// appconfig.ErrNoApp.
func (c *Client) open(ctx context.Context, create bool) (appconfig.Config, error) {
	c.opened.mu.Lock()
	defer c.opened.mu.Unlock()
	if c.opened.config.Shards != 0 {
		return c.opened.config, nil
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	var config appconfig.Config
	var err error
	if create {
		config, err = appconfig.OpenAs(asking, c.client, c.layout, c.cfg.Shards, DefaultShards, c.origin)
	} else {
		config, err = appconfig.Read(asking, c.client, c.layout)
	}
	var shards *appconfig.ShardsError
	switch {
	case errors.As(err, &shards):
		return config, shardsInput(shards)
	case err != nil:
		return config, etcd.Unreachable(ctx, err)
	}
	c.opened.config = config
	return config, nil
}

// reader returns a reader of the app, and nil where there is no app.
func (c *Client) reader(ctx context.Context) (*picture.Reader, error) {
	r, err := c.needReader(ctx)
	if errors.Is(err, ErrNoApp) {
		return nil, nil
	}
	return r, err
}

// needReader is reader with ErrNoApp where there is no app.
func (c *Client) needReader(ctx context.Context) (*picture.Reader, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return nil, c.noApp(err)
	}
	return c.readerOf(config), nil
}

// readerOf returns a reader of the app with that config.
func (c *Client) readerOf(config appconfig.Config) *picture.Reader {
	return &picture.Reader{
		Client: c.client, Layout: c.layout, Shards: config.Shards, Timeout: c.cfg.Etcd.CommandTimeout,
	}
}

// anyReader returns a reader for what does not depend on the number of shards, so that the app need not exist.
func (c *Client) anyReader() *picture.Reader { return c.readerOf(appconfig.Config{}) }

// desk returns what gives orders in the app. ErrNoApp says that there is no app.
func (c *Client) desk(ctx context.Context) (*order.Desk, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return nil, c.noApp(err)
	}
	return &order.Desk{Reader: c.readerOf(config), Created: config.CreateRevision, Origin: c.origin}, nil
}

// noApp makes of appconfig.ErrNoApp an ErrNoApp that names the app, and returns other errors as they are.
func (c *Client) noApp(err error) error {
	if !errors.Is(err, appconfig.ErrNoApp) {
		return err
	}
	return fmt.Errorf("%w %q at prefix %q", ErrNoApp, c.cfg.App, c.cfg.Prefix)
}

// Exists reports whether etcd has any key of the app.
func (c *Client) Exists(ctx context.Context) (bool, error) {
	return c.anyReader().Exists(ctx)
}

// Apps lists the apps below the prefix by name, at most limit of them, from the given name on; from may be empty. It
// makes one small request for each app.
func (c *Client) Apps(ctx context.Context, from string, limit int) ([]string, error) {
	return c.anyReader().Apps(ctx, c.cfg.Prefix, from, limit)
}

// Members lists the live members by id, and those that are expected back (Config.Rejoin). It reads the keys of members
// only, so that it costs the same however many resources there are: how many resources a member has is by the member's
// own figures.
func (c *Client) Members(ctx context.Context) ([]MemberInfo, error) {
	g, err := c.Group(ctx)
	return g.Members, err
}

// Drains lists the orders that members hold nothing, by member, also those of members that are not there.
func (c *Client) Drains(ctx context.Context) ([]DrainInfo, error) {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return []DrainInfo{}, err
	}
	roll, err := r.Roll(ctx)
	if err != nil {
		return []DrainInfo{}, err
	}
	return mapped(roll.Drains(), drainOf), nil
}

// Schemas is Status.Schemas. It reads the keys of members only.
func (c *Client) Schemas(ctx context.Context) (string, error) {
	g, err := c.Group(ctx)
	return g.Schemas, err
}

// Lookup tells who handles a resource. ErrNotFound says that the catalogue does not want it handled, that nobody has a
// claim on it, and that no operator has suspended it.
func (c *Client) Lookup(ctx context.Context, id string) (Assignment, error) {
	r, err := c.needReader(ctx)
	if err != nil {
		return Assignment{}, fmt.Errorf("resource %q: %w", id, err)
	}
	a, err := r.Lookup(ctx, id)
	return assignmentOf(a), err
}

// Status sums the app up.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.reader(ctx)
	if err != nil {
		return Status{}, err
	}
	if r == nil {
		return Status{App: c.cfg.App}, nil
	}
	s, err := r.Status(ctx)
	if err != nil {
		return Status{}, err
	}
	return appStatusOf(c.cfg.App, s), nil
}

// Allocate is Manager.Allocate. Where the app does not exist it returns ErrNoApp, or creates the app, as
// ClientConfig.Create says.
func (c *Client) Allocate(ctx context.Context, r Resource) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	store, err := c.store(ctx, c.cfg.Create)
	if err != nil {
		return fmt.Errorf("allocate %q: %w", r.ID, err)
	}
	return allocate(ctx, store, c.cfg.Etcd.CommandTimeout, r)
}

// Deallocate is Manager.Deallocate.
func (c *Client) Deallocate(ctx context.Context, id string) error {
	store, err := c.store(ctx, false)
	if err != nil {
		return fmt.Errorf("deallocate %q: %w", id, err)
	}
	return deallocate(ctx, store, c.cfg.Etcd.CommandTimeout, id)
}

func (c *Client) store(ctx context.Context, create bool) (*catalogue.Store, error) {
	config, err := c.open(ctx, create)
	if err != nil {
		return nil, c.noApp(err)
	}
	return &catalogue.Store{
		Etcd: txn.New(c.client), Limits: new(txn.Limits), Layout: c.layout, Shards: config.Shards,
		Config: config.CreateRevision, Timeout: c.cfg.Etcd.CommandTimeout,
		Quota:  catalogue.Quota{Resources: c.cfg.MaxAppResources, Bytes: c.cfg.MaxResourceBytes},
		Origin: c.origin,
	}, nil
}

// Wait is Manager.Wait.
func (c *Client) Wait(ctx context.Context, id string) (Assignment, error) {
	r, err := c.needReader(ctx)
	if err != nil {
		return Assignment{}, fmt.Errorf("wait for resource %q: %w", id, err)
	}
	return waitActive(ctx, r, id)
}

// waitActive waits with a reader, for a Client or a Manager.
func waitActive(ctx context.Context, r *picture.Reader, id string) (Assignment, error) {
	a, err := r.Wait(ctx, id)
	return assignmentOf(a), waitError(err)
}

// WaitGone returns when a resource that was deallocated or suspended is not handled any more, and nobody has a claim on
// it. Where ctx ends first, the *WaitError says which member still has the claim.
func (c *Client) WaitGone(ctx context.Context, id string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WaitGone(ctx, id))
}

// Retry has a resource tried again at once: see RetryWith.
func (c *Client) Retry(ctx context.Context, id string) error {
	_, err := c.RetryWith(ctx, id, OrderOptions{})
	return err
}

// RetryWith has a resource tried again at once that is not handled because of what happened before, and says what that
// was. A resource that is quarantined (StateQuarantined) is freed: the member that it belongs to begins with it again,
// as if no member had died of it. Of one that has failed (StateFailed), the member that has the claim is ordered to try
// again now: its pauses and attempts begin anew, and its budgets hold as ever. Where there is nothing to do it returns
// "": the resource is active, or no try has failed yet. A member whose call runs goes on with it, and one of an older
// version pays no heed: such an order expires after 10 minutes. Of the options, By and Why count.
//
// It does not wait for the outcome; Wait does. ErrNotFound says that there is no such resource.
func (c *Client) RetryWith(ctx context.Context, id string, o OrderOptions) (was State, err error) {
	if err := keys.CheckID(id); err != nil {
		return "", fmt.Errorf("retry: %w", &InputError{"id", id, err.Error()})
	}
	if err := o.Validate(); err != nil {
		return "", fmt.Errorf("retry: %w", err)
	}
	desk, err := c.desk(ctx)
	var found string
	if err == nil {
		found, err = desk.Retry(ctx, id, order.Options(c.said(o)))
	}
	switch {
	case errors.Is(err, picture.ErrNotFound): // names the resource
		return "", fmt.Errorf("retry: %w", err)
	case err != nil:
		return "", fmt.Errorf("retry resource %q: %w", id, err)
	}
	return State(found), nil
}

// RetryFailed is RetryWith for all resources that have failed. It reads all claims, and nothing else. It returns the
// ids of those that it has ordered to be tried, in order, also where it returns an error.
func (c *Client) RetryFailed(ctx context.Context, o OrderOptions) ([]string, error) {
	err := o.Validate()
	var desk *order.Desk
	if err == nil {
		desk, err = c.desk(ctx)
	}
	ordered := []string{}
	if err == nil {
		ordered, err = desk.RetryFailed(ctx, order.Options(c.said(o)))
	}
	if err != nil {
		return ordered, fmt.Errorf("retry what has failed: %w", err)
	}
	return ordered, nil
}

// RetryQuarantined is RetryWith for all resources that are quarantined. It returns the ids of those that it has freed,
// in order, also where it returns an error.
func (c *Client) RetryQuarantined(ctx context.Context) ([]string, error) {
	desk, err := c.desk(ctx)
	if err != nil {
		return []string{}, fmt.Errorf("retry what is quarantined: %w", err)
	}
	freed, err := desk.RetryAll(ctx)
	if err != nil {
		return freed, fmt.Errorf("retry what is quarantined: %w", err)
	}
	return freed, nil
}

// Quarantined lists the ids of the resources that are quarantined, in order. It reads neither the catalogue nor claims.
func (c *Client) Quarantined(ctx context.Context) ([]string, error) {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return []string{}, err
	}
	return r.Quarantined(ctx)
}

func allocate(ctx context.Context, store *catalogue.Store, timeout time.Duration, r Resource) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	item := catalogue.Item{ID: r.ID, Data: r.Object()}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := store.Allocate(bounded, item, saysMoreThanID(item.Data))
	return allocateError(ctx, r, err)
}

// allocateError makes an error of the catalogue match those of this package.
func allocateError(ctx context.Context, r Resource, err error) error {
	var over *catalogue.QuotaError
	if errors.As(err, &over) {
		return fmt.Errorf("allocate %q: %w", r.ID, (*QuotaError)(over))
	}
	if errors.Is(err, catalogue.ErrTooLarge) {
		return fmt.Errorf("allocate %q: %w", r.ID, &InputError{
			Field: "data",
			Value: fmt.Sprintf("%d bytes", len(r.Data)),
			Want:  "what fits into one request to etcd, 1.5 MiB by default",
		})
	}
	return writeError(ctx, err)
}

func deallocate(ctx context.Context, store *catalogue.Store, timeout time.Duration, id string) error {
	if err := (Resource{ID: id}).Validate(); err != nil {
		return fmt.Errorf("deallocate: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := store.Deallocate(bounded, id)
	return writeError(ctx, err)
}

// writeError makes an error of the catalogue match those of this package.
func writeError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, catalogue.ErrNotFound):
		return &notThereError{err}
	case errors.Is(err, ErrAppGone):
		return err
	default:
		return etcd.Unreachable(ctx, err)
	}
}

// saysMoreThanID says whether an object has a field besides "id". One that has none leaves the data as they are that
// the catalogue has.
func saysMoreThanID(object []byte) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(object, &fields) != nil || len(fields) > 1
}

// shardsInput makes the error that an app has another number of shards than was asked for.
func shardsInput(e *appconfig.ShardsError) error {
	return fmt.Errorf("config: %w", &InputError{
		"Shards", fmt.Sprint(e.Asked), fmt.Sprintf("the %d that the app was created with, or none given; "+
			"drmctl reshard changes the number", e.Has),
	})
}
