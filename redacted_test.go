package drm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
)

func TestResourcesAndClaimsArePrintedAndLoggedWithoutTheirData(t *testing.T) {
	const secret = "hunter2"
	r := drm.Resource{ID: "the-id", Data: json.RawMessage(`{"password":"` + secret + `"}`)}
	c := drm.NewClaim("app", "member", r, 7, nil)
	var log bytes.Buffer
	logger := zap.New(
		zapcore.NewCore(
			zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
			zapcore.AddSync(&log),
			zap.DebugLevel,
		),
	)
	logger.Info("x", zap.Any("r", r), zap.Any("c", c), zap.Any("p", &r), zap.Stringer("s", r), zap.Stringer("t", c))
	slogger := slog.New(slog.NewJSONHandler(&log, nil))
	slogger.Info("x", "r", r, "c", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "r", r, "c", c)
	all := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all += fmt.Sprintf(verb+" "+verb+" "+verb+" "+verb+" "+verb+"\n", r, c, &r, &c, []any{r, c})
	}
	if strings.Contains(all, secret) || strings.Contains(all, "68756e74657232") || strings.Contains(all, "104 117") ||
		strings.Count(all, "the-id") < 30 {
		t.Error(all)
	}
	// Asked for as JSON, the data are there.
	if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), secret) {
		t.Errorf("%s, %v", b, err)
	}
}
