package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// foreign says why a request is refused because a web page may have made it: any page that somebody opens on this
// machine can send requests to loopback addresses. It returns "" if no page can have made the request.
func (h *Handler) foreign(r *http.Request) string {
	if origin := r.Header.Get("Origin"); origin != "" {
		return "requests of web pages are refused: this one has the Origin " + excerpt.Of(origin)
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return "" // no page can reach it
	}
	if h.isOurs(r.Host) {
		return ""
	}
	return "the Host " + excerpt.Of(r.Host) + " is refused: want localhost or a loopback address, since a web page " +
		"could make any other name mean this machine"
}

// isOurs reports whether a Host header names this machine.
func (h *Handler) isOurs(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // it has no port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.IsLoopback() || strings.EqualFold(name, "localhost") {
		return true
	}
	return slices.ContainsFunc(h.hosts, func(of string) bool { return of == "*" || strings.EqualFold(of, name) })
}
