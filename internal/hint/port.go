package hint

import (
	"net/url"
	"strconv"
	"strings"
)

// Port says what is wrong with the host and port of a URL; empty if nothing is. The text completes the sentence "want
// …".
func Port(u *url.URL) string {
	if u.Hostname() == "" {
		return "a host in it"
	}
	text := u.Port()
	if text == "" && !strings.HasSuffix(u.Host, ":") {
		return ""
	}
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return "a port from 1 to 65535, or none"
	}
	return ""
}
