package embedded

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// address is a place to listen on.
type address struct {
	listen string // IP:port to bind
	dial   string // host:port to reach it at
	picked bool   // the port was picked here, not by the user
}

type addresses struct{ client, peer address }

// resolve makes addresses from what the user configured. It binds each address once, so that an unusable address is a
// clear error, and so that the port is known if any will do: etcd, if told to use port 0, would advertise port 0.
// Another process may take the port before etcd binds it, so the caller tries again with new ports.
func resolve(cfg Config) (addresses, error) {
	client, probe, err := parseAddress("client address", cfg.ListenClient)
	if err != nil {
		return addresses{}, err
	}
	// The first port stays bound until the second one is known, so that both picks differ.
	defer func() { _ = probe.Close() }()
	peer, probe2, err := parseAddress("peer address", cfg.ListenPeer)
	if err != nil {
		return addresses{}, err
	}
	_ = probe2.Close()
	return addresses{client: client, peer: peer}, nil
}

func parseAddress(what, text string) (address, net.Listener, error) {
	hostPort := text
	if scheme, rest, isURL := strings.Cut(text, "://"); isURL {
		if scheme != "http" {
			return address{}, nil, fmt.Errorf("%s: got %q, want host:port or http://host:port", what, text)
		}
		hostPort = strings.TrimSuffix(rest, "/")
	}
	if hostPort == "" {
		hostPort = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return address{}, nil, fmt.Errorf("%s: got %q, want host:port or http://host:port", what, text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return address{}, nil, fmt.Errorf("%s: got %q, want a port from 0 to 65535", what, text)
	}
	// etcd binds only IP addresses, and "" means everywhere.
	bind := host
	if host == "" {
		bind = "0.0.0.0"
	} else if net.ParseIP(host) == nil {
		ip, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return address{}, nil, fmt.Errorf("%s %q: %w", what, text, err)
		}
		bind = ip.String()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(bind, port))
	if err != nil {
		return address{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	tcp := l.Addr().(*net.TCPAddr)
	port = strconv.Itoa(tcp.Port)
	dial := host
	if ip := net.ParseIP(bind); ip.IsUnspecified() {
		dial = "127.0.0.1"
		if ip.To4() == nil {
			dial = "::1"
		}
	}
	return address{
		listen: net.JoinHostPort(bind, port),
		dial:   net.JoinHostPort(dial, port),
		picked: number == 0,
	}, l, nil
}
