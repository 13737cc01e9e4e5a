package leaselink

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// MostLine is how many bytes a line may have, with the newline.
const MostLine = 4096

// Of says what is on a lease.
type Of string

// The values of Of.
const (
	Member Of = "member" // the member's own key
	Claims Of = "claims" // claims; anything unknown counts as this
)

// Line is one line of the protocol, which a member writes as JSON: it has a lease, or the lease is gone from etcd.
type Line struct {
	Lease   string `json:"lease,omitempty"`   // the id of a lease that the member has got
	Cluster string `json:"cluster,omitempty"` // the id of the cluster of etcd that has the lease; empty: not known
	Of      Of     `json:"of,omitempty"`      // what is on the lease
	Deaths  string `json:"deaths,omitempty"`  // the key of etcd in which the supervisor writes how the process ended
	Dropped string `json:"dropped,omitempty"` // the id of a lease that is gone
}

// ID writes an id of etcd as the protocol does: 16 hexadecimal digits.
func ID(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// parseID is the reverse of ID. It accepts fewer digits as well, since etcd's tools print no leading zeros.
func parseID(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 16, 64)
	return int64(n), err
}

// Lease is a lease as a member has described it.
type Lease struct {
	ID      int64
	Cluster uint64 // 0: not known
	Of      Of
	Deaths  string // the key in which it is written how the process ended that had the lease; empty: in none
}

// ErrLine is the error of Parse for a line that no member writes.
var ErrLine = errors.New("not a line of the protocol")

// Parse reads a line. Either held or dropped is the id of a lease; both are 0 for a line of a later version, which a
// supervisor ignores.
func Parse(text []byte) (held Lease, dropped int64, err error) {
	var line Line
	if err := json.Unmarshal(text, &line); err != nil {
		return held, 0, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if line.Dropped != "" {
		if dropped, err = parseID(line.Dropped); err != nil {
			return held, 0, fmt.Errorf("%w: dropped: %w", ErrLine, err)
		}
	}
	if line.Lease == "" {
		return held, dropped, nil
	}
	if held.ID, err = parseID(line.Lease); err != nil {
		return Lease{}, dropped, fmt.Errorf("%w: lease: %w", ErrLine, err)
	}
	if line.Cluster != "" {
		cluster, err := parseID(line.Cluster)
		if err != nil {
			return Lease{}, dropped, fmt.Errorf("%w: cluster: %w", ErrLine, err)
		}
		held.Cluster = uint64(cluster)
	}
	if line.Deaths != "" && !isDeathsKey(line.Deaths) {
		return Lease{}, dropped, fmt.Errorf("%w: deaths: %.100q is no key of a member's deaths", ErrLine, line.Deaths)
	}
	held.Of, held.Deaths = Claims, line.Deaths
	if line.Of == Member {
		held.Of = Member
	}
	return held, dropped, nil
}

// isDeathsKey says whether a key is one of those that a supervisor writes, so that no line makes it write another one.
func isDeathsKey(key string) bool {
	rest, member := path.Split(key)
	return strings.HasPrefix(key, "/") && strings.HasSuffix(rest, "/deaths/") && member != ""
}
