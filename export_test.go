package drm

import (
	"context"

	"go.uber.org/zap"
)

// CheckItems checks what a source returned, and counts what is fine.
func CheckItems(resources []Resource) (int, *BadItemsError) {
	items, bad := toItems(resources, nil)
	return len(items), bad
}

// During lets tests wait as Start does.
func During(ctx context.Context, log *zap.Logger, what string, f func() error) error {
	return during(ctx, log, what, nil, f)
}
