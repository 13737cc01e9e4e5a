package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/httpapi"
	"github.com/distributed-resource-manager/drm/internal/listen"
)

const flagListen = "listen"

// lastAnswers is how long requests have for their answers when the member has ended.
const lastAnswers = time.Second

// listenFlag is the flag of what an agent serves by HTTP.
func listenFlag() cli.Flag {
	return &cli.StringFlag{
		Name: flagListen, EnvVars: agentEnv(flagListen),
		Usage: "answer HTTP requests about this member at this `ADDRESS`: what it handles, reports, probes " +
			"(docs/agent.md): HOST:PORT or :PORT on this machine (port 0: a free one), or unix:/PATH",
	}
}

// agentAPI is what an agent serves by HTTP. Nil stands for an agent that serves nothing.
type agentAPI struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{} // closed when the server has ended; nil before serve
	log      *zap.Logger
}

// listenAgent begins to listen at the address of --listen, and gives the member a Health. It returns nil if the flag is
// not given. The caller calls serve, and close at the end.
func listenAgent(c *cli.Context, cfg *drm.Config) (*agentAPI, error) {
	text := c.String(flagListen)
	if text == "" {
		return nil, nil //nolint:nilnil // a nil agentAPI is one that serves nothing
	}
	address, err := listen.Parse(text)
	if err != nil {
		return nil, badFlag(flagListen, text, err.Error())
	}
	cfg.Health = new(drm.Health)
	h, err := httpapi.New(httpapi.Config{Health: cfg.Health})
	if err != nil {
		return nil, err
	}
	l, err := address.Listen(c.Context)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flagListen, err)
	}
	return &agentAPI{listener: l, server: httpapi.NewServer(h), log: cfg.Logger}, nil
}

// url says where the agent listens; "" if it does not.
func (a *agentAPI) url() string {
	if a == nil {
		return ""
	}
	return listen.URL(a.listener)
}

// serve begins to answer requests, and prints on out where.
func (a *agentAPI) serve(out io.Writer) {
	if a == nil {
		return
	}
	if log, err := zap.NewStdLogAt(a.log, zap.WarnLevel); err == nil {
		a.server.ErrorLog = log
	}
	fmt.Fprintf(out, "listening: %s\n", a.url())
	a.served = make(chan struct{})
	go func() {
		defer close(a.served)
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("cannot answer HTTP requests any more", zap.String("address", a.url()), zap.Error(err))
		}
	}()
}

// close ends what serve has begun. Requests that wait for an answer get it, if it comes soon.
func (a *agentAPI) close() {
	if a == nil {
		return
	}
	if a.served == nil {
		_ = a.listener.Close() // nobody was answered
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if err := a.server.Shutdown(ctx); err != nil {
		_ = a.server.Close() // cuts off what is left
	}
	<-a.served
}
