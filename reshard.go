package drm

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/reshard"
)

// Reshard says how the number of shards of an app is to be changed.
type Reshard struct {
	// Shards is the number of shards that the app is to have, 1 to 4096.
	Shards int
	// Wait makes Client.Reshard wait until the claims of members that have ended, and the reservations of members that
	// have stopped, are gone: for as long as ctx allows. Otherwise these are an error.
	Wait bool
	// Unverified finishes a change although the app does not have what it had when the change began. It is for what
	// somebody has written to etcd by hand meanwhile.
	Unverified bool
}

// Resharded is what a change of the number of shards has done.
type Resharded struct {
	From, To    int
	Resources   int      // entries of the catalogue, also suspended ones
	Quarantined int      // resources that are quarantined
	Trailed     int      // resources that members which have died had begun shortly before
	Moved       int      // keys that were moved by this call; one that continues a change moves only the rest
	Dropped     []string // the orders that name shards, and so have no meaning any more: for people
	Ignored     int      // keys that are not understood, and stay where they are
}

// Reshard changes the number of shards of the app while all of its members are stopped. While it is in progress,
// nothing can open the app: Start and all methods of a Client return ErrResharding. Where it is interrupted, calling it
// again with the same number finishes it. What the app has is compared afterwards with what it had before. The members
// then have to be started without Config.Shards, or with the new number. Every Client that was made before has to be
// made anew.
//
// Pins, moves of shards, other exceptions, and the shards that a drain or a cordon lets a member keep are dropped,
// since they name shards.
//
// Errors: an *InputError for Shards; ErrInUse while a member lives, or has left claims or a reservation; ErrSameShards;
// ErrResharding where a change to another number has begun; ErrNoApp; ErrUnreachable; and others, such as that somebody
// has written to the app meanwhile. After an error the app is as it was, or Reshard has to be called again.
func (c *Client) Reshard(ctx context.Context, r Reshard) (Resharded, error) {
	if r.Shards < 1 || r.Shards > keys.MaxShards {
		return Resharded{}, fmt.Errorf("change the number of shards: %w", &InputError{
			"Shards", strconv.Itoa(r.Shards), fmt.Sprintf("1 to %d", keys.MaxShards),
		})
	}
	job := &reshard.Job{
		Client: c.client, Layout: c.layout, Timeout: c.cfg.Etcd.CommandTimeout,
		To: r.Shards, Wait: r.Wait, Unverified: r.Unverified, Origin: c.origin,
	}
	report, err := job.Run(ctx)
	done := Resharded(report)
	c.forget() // it may be another one now
	if err == nil {
		return done, nil
	}
	if errors.As(err, new(*reshard.InUseError)) || errors.As(err, new(*reshard.ClaimsError)) {
		err = fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return done, fmt.Errorf("change the number of shards to %d: %w", r.Shards, c.noApp(err))
}
