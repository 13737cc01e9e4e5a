package retriever_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

func ExampleHTTP() {
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = fmt.Fprint(w, `{"data": [{"id": "btc", "url": "wss://example.org/btc"}, {"id": "eth"}]}`)
	}))
	defer source.Close()

	h, err := retriever.NewHTTP(retriever.HTTPConfig{
		URL:    source.URL,
		Header: http.Header{"Authorization": {"Bearer secret"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	defer func() { _ = h.TearDown(ctx) }() // a drm.Manager calls these methods by itself

	resources, err := h.Fetch(ctx)
	fmt.Println(len(resources), "resources,", string(resources[0].Data), err)
	_, err = h.Fetch(ctx)
	fmt.Println("unchanged:", errors.Is(err, drm.ErrNotModified))
	// Output:
	// 2 resources, {"id":"btc","url":"wss://example.org/btc"} <nil>
	// unchanged: true
}

func ExampleDecode() {
	resources, err := retriever.Decode(strings.NewReader(`{"data": [{"id": "a", "n": 1}, {"id": "b"}]}`),
		retriever.DecodeOptions{})
	fmt.Println(len(resources), resources[1].ID, err)

	resources, err = retriever.Decode(strings.NewReader(`{"data": [{"id": "a"}, {"name": "b"}]}`),
		retriever.DecodeOptions{})
	var bad *drm.BadItemsError
	fmt.Println(len(resources), errors.As(err, &bad), bad)
	// Output:
	// 2 b <nil>
	// 1 true item 1: id: got "an object of name", want an object with a string "id"
}

func ExampleFunc() {
	source := retriever.Func(func(context.Context) ([]drm.Resource, error) {
		return []drm.Resource{{ID: "a"}, {ID: "b"}}, nil // from a database, say
	})
	resources, err := source.Fetch(context.Background())
	fmt.Println(len(resources), err)
	// Output: 2 <nil>
}

func ExampleStatic() {
	source := retriever.Static(drm.Resource{ID: "a"}, drm.Resource{ID: "a"})
	_, err := source.Fetch(context.Background())
	fmt.Println(err)
	// Output: item 1 (id "a"): id "a" is also that of item 0, want each id once
}
