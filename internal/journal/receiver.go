package journal

import (
	"encoding/json"
	"net/http"
)

// Receiver is the service at the other end of a webhook handler: it records what it is told, and agrees to everything.
// It does not record reports of failures, since they did nothing to a resource.
type Receiver struct{ Journal *Journal }

// ServeHTTP takes one request of the webhook protocol.
func (r Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Action   string `json:"action"`
		Member   string `json:"member"`
		Token    int64  `json:"token"`
		Resource struct {
			ID string `json:"id"`
		} `json:"resource"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<20)).Decode(&body); err != nil {
		http.Error(w, "not a request of the webhook protocol: "+err.Error(), http.StatusBadRequest)
		return
	}
	switch a := Action(body.Action); a {
	case Handle, Update, Terminate:
		r.Journal.Record(Event{Member: body.Member, Action: a, Resource: body.Resource.ID, Token: body.Token})
	}
	w.WriteHeader(http.StatusNoContent)
}
