package hint_test

import (
	"net/url"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/hint"
)

func TestHostsAndPortsThatCannotBe(t *testing.T) {
	for text, good := range map[string]bool{
		"http://a/": true, "http://a:1/": true, "https://[::1]:65535/": true, "https://[::1]/": true,
		"http://a:/": false, "http://a:0/": false, "http://a:65536/": false, "http://:9/": false, "http:///x": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if want := hint.Port(u); (want == "") != good {
			t.Errorf("%s: wants %q", text, want)
		}
	}
}
