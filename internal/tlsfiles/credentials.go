package tlsfiles

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

// Get returns the configuration of the next connection. It may be user code.
type Get func() (*tls.Config, error)

// ask calls get, and survives what user code may do: hang, panic, end its goroutine, return nothing.
func ask(ctx context.Context, get Get) (*tls.Config, error) {
	type answer struct {
		cfg *tls.Config
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: errors.New("it ended its goroutine")}
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: errors.New("it panicked")} // the value of the panic may be a secret
			}
			answered <- a
		}()
		cfg, err := get()
		if cfg == nil && err == nil {
			err = errors.New("it returned neither a configuration nor an error")
		}
		a = answer{cfg, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, fmt.Errorf("asking for the TLS configuration: %w", a.err)
		}
		return a.cfg, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("asking for the TLS configuration: %w", context.Cause(ctx))
	}
}

// Credentials returns gRPC's TLS credentials, which ask get for the configuration at each connection.
func Credentials(get Get) credentials.TransportCredentials { return &asking{get: get} }

type asking struct {
	get  Get
	name string // set by OverrideServerName
}

// ClientHandshake implements credentials.TransportCredentials. gRPC bounds ctx.
func (a *asking) ClientHandshake(
	ctx context.Context,
	authority string,
	conn net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := ask(ctx, a.get)
	if err != nil {
		return nil, nil, err
	}
	if a.name != "" {
		cfg = cfg.Clone()
		cfg.ServerName = a.name
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements credentials.TransportCredentials. These credentials are only for clients.
func (a *asking) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a client's")
}

// Info implements credentials.TransportCredentials.
func (a *asking) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.name}).Info()
}

// Clone implements credentials.TransportCredentials.
func (a *asking) Clone() credentials.TransportCredentials {
	clone := *a
	return &clone
}

// OverrideServerName implements credentials.TransportCredentials.
func (a *asking) OverrideServerName(name string) error {
	a.name = name
	return nil
}
