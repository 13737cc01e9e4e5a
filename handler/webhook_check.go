package handler

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/distributed-resource-manager/drm"
)

// errNoChecks is the error of a Check that asks nothing.
var errNoChecks = fmt.Errorf("webhook: %s: %w", actionCheck, errors.ErrUnsupported)

// Check asks the receiver with a "check" request whether what it was given for a resource still works. Any 2xx status
// says so. A 404 or a 501 says that the receiver does not know the action: the error then matches
// errors.ErrUnsupported, and until another instance of the receiver answers (InstanceHeader), Check sends nothing and
// returns such an error at once. It also does so without WebhookConfig.Checks. Any other outcome is a failed check. A
// receiver that knows the action, and does not have the resource, answers 410.
func (w *Webhook) Check(ctx context.Context, c drm.Claim) error {
	asked := w.instances.current()
	if !w.checks || w.noChecks.Load() == asked+1 {
		return errNoChecks
	}
	status, err := w.send(ctx, actionCheck, c, nil)
	if status == http.StatusNotFound || status == http.StatusNotImplemented {
		w.noChecks.Store(asked + 1)
		return fmt.Errorf("%w: the receiver does not know the action: %w", errors.ErrUnsupported, err)
	}
	return err
}
