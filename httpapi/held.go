package httpapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

// mostLists is how many lists are made at once. The others wait: each may have a hundred thousand resources.
const mostLists = 2

// heldJSON is one resource that the member handles.
type heldJSON struct {
	ID      string          `json:"id"`
	Shard   int             `json:"shard"`
	Token   int64           `json:"token"`
	State   drm.State       `json:"state"`
	Since   *string         `json:"since"`
	ValidMS int64           `json:"valid_ms"`
	Error   string          `json:"error"`
	Data    json.RawMessage `json:"data"`
}

// heldOf makes the JSON of a claim. valid_ms is as of now, and rounded down.
func heldOf(h drm.HeldClaim) heldJSON {
	return heldJSON{
		ID: h.Claim.Resource.ID, Shard: h.Shard, Token: h.Claim.Token, State: h.State, Since: stamp(h.Since),
		ValidMS: int64(h.Claim.Remaining() / time.Millisecond), Error: h.Error, Data: h.Claim.Resource.Object(),
	}
}

// held answers with what the member handles now: all of it, or the one resource of the parameter id.
func (h *Handler) held(w http.ResponseWriter, r *http.Request) {
	id, one, f := listed(r)
	if f.Error != "" {
		refuse(w, http.StatusBadRequest, f)
		return
	}
	m := h.manager(w, r)
	if m == nil {
		return
	}
	var claims []drm.HeldClaim
	if one {
		if claim, ok := m.HeldClaim(id); ok {
			claims = append(claims, claim)
		}
	} else {
		select {
		case h.lists <- struct{}{}:
			defer func() { <-h.lists }()
		case <-r.Context().Done():
			return
		}
		claims = m.HeldClaims()
	}
	writeHeld(w, m, claims)
}

// listed returns which resource the client wants to know of; one is false if it wants to know of all.
func listed(r *http.Request) (id string, one bool, f failure) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", false, wrong("query", r.URL.RawQuery, "?id=ID, percent-encoded, or none")
	}
	for name, values := range query {
		if name != "id" || len(values) != 1 {
			return "", false, wrong(name, values[0], "one id, and no other parameter")
		}
		id, one = values[0], true
		if f, ok := badID(id); !ok {
			return "", false, f
		}
	}
	return id, one, failure{}
}

// writeHeld sends the list piece by piece.
func writeHeld(w http.ResponseWriter, m *drm.Manager, claims []drm.HeldClaim) {
	head, err := jsontext.Marshal(struct {
		Member string `json:"member"`
		App    string `json:"app"`
	}{m.ID(), m.App()})
	if err != nil {
		refuse(w, http.StatusInternalServerError, failure{Error: err.Error()})
		return
	}
	begin(w, http.StatusOK)
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.Write(head[:len(head)-1]) // the writer keeps its first error
	_, _ = out.WriteString(`,"held":[`)
	for i, c := range claims {
		one, err := jsontext.Marshal(heldOf(c))
		if err != nil { // the data were JSON when they came
			return // and so the client sees that the list is cut off
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		if _, err := out.Write(one); err != nil {
			return // the client is gone, or too slow
		}
	}
	_, _ = out.WriteString("]}\n")
	_ = out.Flush()
}
