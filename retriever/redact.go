package retriever

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/secrets"
)

// redact tells a URL without what may be secret in it: userinfo, the query, the fragment.
func redact(u *url.URL) string {
	if u.Host == "" {
		if *u == (url.URL{}) {
			return ""
		}
		return "…" // what is no URL may be anything
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.RawQuery != "" {
		return shown.String() + "?…"
	}
	return shown.String()
}

const redacted = "[redacted]"

// secretsOf lists what no error may tell: header values, also without a scheme such as "Bearer" and without the name of
// a cookie, what is in a basic authentication, query values, and the body; each also as a URL and as JSON would have
// it.
func secretsOf(u *url.URL, header http.Header, body []byte) secrets.Set {
	var all []string
	add := func(s string) {
		if secrets.IsLong(s) {
			quoted, _ := jsonOf(s) // what is not UTF-8 has no such form
			all = append(all, s, url.QueryEscape(s), strings.Trim(string(quoted), `"`))
		}
	}
	for _, values := range header {
		for _, v := range values {
			add(v)
			for _, word := range strings.Fields(v) {
				add(word)
				_, value, _ := strings.Cut(strings.TrimRight(word, ";,"), "=")
				add(value)
			}
		}
	}
	basic, isBasic := strings.CutPrefix(header.Get("Authorization"), "Basic ")
	if pair, err := base64.StdEncoding.DecodeString(basic); isBasic && err == nil {
		user, password, _ := strings.Cut(string(pair), ":")
		add(user)
		add(password)
	}
	for key, values := range u.Query() {
		if slices.Equal(values, []string{""}) {
			add(key) // such as ?token, where the key is the value
		}
		for _, v := range values {
			add(v)
		}
	}
	add(string(body))
	return secrets.New(all, redacted)
}

// Parts of URLs in a text. Errors from below the HTTP client may have some, such as that of a proxy.
var (
	userinfoInText = regexp.MustCompile(`//[^/\s"'@]*@`)
	queryInText    = regexp.MustCompile(`\?[^\s"']+`)
)

// scrubText takes out of a text all that looks like userinfo or a query, and the secrets.
func scrubText(s string, hidden secrets.Set) string {
	s = userinfoInText.ReplaceAllString(s, "//")
	s = queryInText.ReplaceAllString(s, "?…")
	if cut, ok := strings.CutSuffix(s, excerpt.Mark); ok { // the excerpt may have cut a secret in two
		if before, end := hidden.CutEnd(cut); end != "" {
			s = before + redacted + excerpt.Mark
		}
	}
	return hidden.Hide(s)
}

// scrubError takes an error of the HTTP client out of its *url.Error, which tells the whole URL. What is inside stays,
// for errors.Is and errors.As, unless its text had to be changed.
func scrubError(err error, hidden secrets.Set) error {
	var outer *url.Error
	for errors.As(err, &outer) {
		err = outer.Err
	}
	text := err.Error()
	if strings.Contains(text, "parse Location header") { // and then all of it, in pieces that are no URLs
		return errors.New("the Location of a redirect is not a URL")
	}
	if scrubbed := scrubText(text, hidden); scrubbed != text {
		return errors.New(scrubbed)
	}
	return err
}

// sameHost reports whether what was meant for one URL may be sent to another: the same host and port, or the step from
// http to https at their usual ports; never from https to http.
func sameHost(meant, other *url.URL) bool {
	if !strings.EqualFold(meant.Hostname(), other.Hostname()) {
		return false
	}
	if meant.Scheme == other.Scheme {
		return port(meant) == port(other)
	}
	return meant.Scheme == "http" && other.Scheme == "https" && port(meant) == "80" && port(other) == "443"
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}
