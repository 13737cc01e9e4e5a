package main

import (
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger makes a log on stderr for people to read. least is the level where --log-level is not given. The level can
// be changed later.
func newLogger(c *cli.Context, least zapcore.Level) (*zap.Logger, zap.AtomicLevel, error) {
	level := zap.NewAtomicLevelAt(least)
	if text := c.String(flagLogLevel); text != "" {
		given, err := zapcore.ParseLevel(text)
		if err != nil || given > zapcore.ErrorLevel {
			return nil, level, badFlag(flagLogLevel, text, "debug, info, warn or error")
		}
		level.SetLevel(given)
	}
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339TimeEncoder
	cfg.EncodeLevel = zapcore.CapitalLevelEncoder
	cfg.EncodeDuration = zapcore.StringDurationEncoder
	sink := zapcore.Lock(zapcore.AddSync(c.App.ErrWriter)) // where run has locked the writer, this is the same lock
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(cfg), sink, level)), level, nil
}
