package retriever

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/secrets"
)

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"http://example.org":             "http://example.org",
		"http://example.org:8080/a/b%2f": "http://example.org:8080/a/b%2f",
		"http://a:b@example.org/c?d=e#f": "http://example.org/c?…",
		"http://example.org?token":       "http://example.org?…",
		"//a:b@example.org/c":            "//example.org/c",
		"/path?token=x":                  "…",
		"secret:secret":                  "…",
	} {
		if got := redact(parse(t, in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		meant, other string
		want         bool
	}{
		{"http://a/x", "http://a/y?z", true},
		{"http://a", "http://A:80", true},
		{"https://a:443", "https://a", true},
		{"http://a", "https://a", true},
		{"https://a", "http://a", false},
		{"http://a:8080", "https://a", false},
		{"http://a", "https://a:8443", false},
		{"http://a:1", "http://a:2", false},
		{"http://a", "http://b", false},
		{"http://a", "http://b.a", false},
		{"http://a.b", "http://b", false},
		{"http://a", "ftp://a:80", false},
	} {
		if got := sameHost(parse(t, c.meant), parse(t, c.other)); got != c.want {
			t.Errorf("%s and %s: %t", c.meant, c.other, got)
		}
	}
}

func TestScrubError(t *testing.T) {
	inner := errors.New("refused")
	nested := &url.Error{
		Op:  "Get",
		URL: "http://a:hush@b",
		Err: fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: "?hush", Err: inner}),
	}
	if got := scrubError(nested, secrets.Set{}); got != inner { // the very same error
		t.Errorf("nested: %v", got)
	}
	for in, want := range map[string]string{
		"invalid proxy address \"http://me:hush@proxy:1\": no":        "invalid proxy address \"http://proxy:1\": no",
		"cannot get http://b/c?hush=hush now":                         "cannot get http://b/c?… now",
		"the key hushkey is wrong":                                    "the key [redacted] is wrong",
		`failed to parse Location header "http://a:hush/b@c": ` + "x": "the Location of a redirect is not a URL",
	} {
		if got := scrubError(errors.New(in), secrets.New([]string{"hushkey"}, redacted)).Error(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSecretsOf(t *testing.T) {
	u := parse(t, "http://b?token=query&loose+key&n=1")
	header := http.Header{"Authorization": {"Basic bWU6cGFzc3dvcmQ="}, "X-Key": {"Bearer token"}}
	hidden := secretsOf(u, header, nil)
	for _, want := range []string{
		"query", "loose key", "loose+key", "password", "Basic bWU6cGFzc3dvcmQ=", "bWU6cGFzc3dvcmQ=", "token",
	} {
		if got := hidden.Hide("<" + want + ">"); got != "<"+redacted+">" {
			t.Errorf("%q is not hidden as a whole: %q", want, got)
		}
	}
	for _, no := range []string{"me", "1"} {
		if hidden.Hide(no) != no {
			t.Errorf("%q is too short to be looked for", no)
		}
	}
}

func TestScrubTextFindsSecretsInAllTheirForms(t *testing.T) {
	hidden := secretsOf(parse(t, "https://example.org/?token=hush%2Fquery"), http.Header{
		"Authorization": {"Bearer hush<bearer>"}, "Cookie": {"a=hush-1; b=hush-2"},
	}, []byte(`{"key":"hush-body"}`))
	for in, want := range map[string]string{
		"nothing":                     "nothing",
		"it was hush/query":           "it was [redacted]",
		"it was hush%2Fquery":         "it was [redacted]",
		`it was {"key":"hush-body"}`:  "it was [redacted]",
		`"{\"key\":\"hush-body\"}"`:   `"[redacted]"`,
		"Bearer hush<bearer>":         "[redacted]",
		"hush<bearer>":                "[redacted]",
		"hush-1 and hush-2":           "[redacted] and [redacted]",
		"cut: hush<bear…":             "cut: [redacted]…",
		"cut: Bearer hush<bear…":      "cut: [redacted]…",
		`cut: {"key":"hu…`:            "cut: [redacted]…",
		"not cut: hush<bear":          "not cut: hush<bear",
		"https://hush:hush@x/?hush=y": "https://x/?…",
	} {
		if got := scrubText(in, hidden); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
