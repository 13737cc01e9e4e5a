package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

// pemFlags are the flags that name the files of a TLS configuration.
type pemFlags struct {
	ca, cert, key string
	of            string // what the connections lead to, for the log: source, handler or etcd
}

// agentFlags makes the flags. url is the flag whose connections use the certificates.
func (f pemFlags) agentFlags(url string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: f.ca, EnvVars: agentEnv(f.ca), DefaultText: "the system's",
			Usage: "trust the authorities in this PEM `FILE` about the certificate of --" + url + ", and no others",
		},
		&cli.StringFlag{
			Name: f.cert, EnvVars: agentEnv(f.cert),
			Usage: fmt.Sprintf("PEM `FILE` of the client certificate to show to --%s; needs --%s", url, f.key),
		},
		&cli.StringFlag{
			Name: f.key, EnvVars: agentEnv(f.key),
			Usage: fmt.Sprintf("PEM `FILE` of the key of --%s", f.cert),
		},
	}
}

// certificates are the files that a command has opened. They are in the app's metadata, because each flag is read where
// it is used.
type certificates struct{ files map[pemFlags]*tlsfiles.Files }

const certificatesKey = "certificates"

// openCertificates reads the files that the flags name. It returns a function that reads them again for each
// connection, or nil where the flags name no file.
func openCertificates(c *cli.Context, flags pemFlags, log *zap.Logger) (get func() (*tls.Config, error), err error) {
	paths := tlsfiles.Paths{CA: c.String(flags.ca), Cert: c.String(flags.cert), Key: c.String(flags.key)}
	if paths == (tlsfiles.Paths{}) {
		return nil, nil
	}
	if (paths.Cert == "") != (paths.Key == "") {
		return nil, usagef("%s and %s need each other", givenBy(c, flags.cert), givenBy(c, flags.key))
	}
	if log == nil {
		log = zap.New(notes{c})
	}
	opened, ok := c.App.Metadata[certificatesKey].(*certificates)
	if !ok {
		opened = &certificates{files: map[pemFlags]*tlsfiles.Files{}}
		if c.App.Metadata == nil {
			c.App.Metadata = map[string]any{}
		}
		c.App.Metadata[certificatesKey] = opened
	}
	if files := opened.files[flags]; files != nil { // --handler-url and --ready-url use the same ones
		return files.TLS, nil
	}
	files, err := tlsfiles.Open(paths, flags.of, log)
	if err != nil {
		if bad, ok := errors.AsType[*tlsfiles.Error](err); ok {
			names := strings.NewReplacer("CA", "--"+flags.ca, "Cert", "--"+flags.cert, "Key", "--"+flags.key)
			return nil, usagef("%s: %w", names.Replace(bad.Field), bad.Err)
		}
		return nil, err
	}
	opened.files[flags] = files
	return files.TLS, nil
}

// watchCertificates warns when something is wrong with one of the opened files, until stop is called.
func watchCertificates(c *cli.Context) (stop func()) {
	opened, ok := c.App.Metadata[certificatesKey].(*certificates)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, files := range opened.files {
		running.Go(func() { files.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// notes is a log for a command that has none: each line becomes a note on stderr.
type notes struct{ c *cli.Context }

// Enabled implements zapcore.Core.
func (notes) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (n notes) With([]zapcore.Field) zapcore.Core { return n }

// Check implements zapcore.Core.
func (n notes) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if n.Enabled(e.Level) {
		return checked.AddCore(e, n)
	}
	return checked
}

// Write implements zapcore.Core.
func (n notes) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(all)
	}
	var details []string
	for _, name := range slices.Sorted(maps.Keys(all.Fields)) {
		details = append(details, fmt.Sprintf("%s %v", name, all.Fields[name]))
	}
	note(n.c, "%s: %s", e.Message, strings.Join(details, ", "))
	return nil
}

// Sync implements zapcore.Core.
func (notes) Sync() error { return nil }
