package member

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// schemas is what this member knows of the versions of what is in etcd that the members write.
type schemas struct {
	apart string // what was logged last, as View.SchemasApart returns it
}

// heed logs when a live member is more than one version away from this one, and remembers in etcd when all members know
// this one's version.
func (s *schemas) heed(
	ctx context.Context, log *zap.Logger, registrar *membership.Registrar, reg membership.Registration,
	v *membership.View,
) error {
	apart := v.SchemasApart(membership.Schema)
	if apart != s.apart && apart != "" {
		log.Warn("this member goes on beside a version that it does not know: members may not agree on who owns a "+
			"shard, so that some resources are handled by nobody; claims keep them from being handled twice",
			zap.String("reason", apart))
	}
	if apart != s.apart && apart == "" {
		log.Info("no member of a version that this one does not know is left")
	}
	s.apart = apart
	if apart != "" || !v.SchemaRises() {
		return nil
	}
	err := registrar.RaiseSchema(ctx, reg, v)
	if errors.Is(err, membership.ErrGone) {
		return nil // the next view shows it
	}
	return err
}
