package drm

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// Whoever logs or prints a Resource or a Claim, or panics with one, means which one it is. Its data may be secret: they
// are told only where they are asked for, as Resource.Data or by encoding/json (which loggers use for slices and structs).

// String names the resource, without its data. It is what zap.Any logs.
func (r Resource) String() string { return fmt.Sprintf("resource %q", excerpt.Of(r.ID)) }

// Format prints what String says, whatever the verb: %+v, %#v and %x tell no data either.
func (r Resource) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, r.String()) // as package fmt does
}

// LogValue is for log/slog.
func (r Resource) LogValue() slog.Value { return slog.StringValue(r.ID) }

// String names the claim, without the resource's data.
func (c Claim) String() string {
	return fmt.Sprintf("claim of %s by member %q under token %d", c.Resource, excerpt.Of(c.Member), c.Token)
}

// Format prints what String says, whatever the verb.
func (c Claim) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, c.String()) // as package fmt does
}

// LogValue is for log/slog.
func (c Claim) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("app", c.App), slog.String("member", c.Member), slog.String("resource", c.Resource.ID), slog.Int64("token", c.Token),
	)
}
