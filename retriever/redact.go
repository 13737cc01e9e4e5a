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

// redact returns the text of a URL without the parts that may be secret: userinfo, query and fragment.
func redact(u *url.URL) string {
	if u.Host == "" {
		if *u == (url.URL{}) {
			return ""
		}
		return "…" // it is not the URL of a host, and may be anything
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.RawQuery != "" {
		return shown.String() + "?…"
	}
	return shown.String()
}

const redacted = "[redacted]"

// secretsOf returns what no error may show: header values, also without a scheme such as "Bearer" and without the name
// of a cookie; user and password of a basic authentication; query values; and the body. Each is a secret also in the
// form that it has in a URL or in JSON.
func secretsOf(u *url.URL, header http.Header, body []byte) secrets.Set {
	var all []string
	add := func(s string) {
		if secrets.IsLong(s) {
			quoted, _ := jsonOf(s) // text that is not UTF-8 has no form in JSON
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
			add(key) // in "?token", the key is the secret
		}
		for _, v := range values {
			add(v)
		}
	}
	add(string(body))
	return secrets.New(all, redacted)
}

// Parts of URLs in a text. Errors from below the HTTP client may have them; an error about a proxy, say.
var (
	userinfoInText = regexp.MustCompile(`//[^/\s"'@]*@`)
	queryInText    = regexp.MustCompile(`\?[^\s"']+`)
)

// scrubText removes from a text everything that looks like userinfo or a query, and the secrets.
func scrubText(s string, hidden secrets.Set) string {
	s = userinfoInText.ReplaceAllString(s, "//")
	s = queryInText.ReplaceAllString(s, "?…")
	if cut, ok := strings.CutSuffix(s, excerpt.Mark); ok { // the text may end with a part of a secret
		if before, end := hidden.CutEnd(cut); end != "" {
			s = before + redacted + excerpt.Mark
		}
	}
	return hidden.Hide(s)
}

// scrubError removes secrets from an error. It unwraps a *url.Error, which shows the whole URL. The error inside stays
// for errors.Is and errors.As, unless its text has secrets.
func scrubError(err error, hidden secrets.Set) error {
	var outer *url.Error
	for errors.As(err, &outer) {
		err = outer.Err
	}
	text := err.Error()
	if strings.Contains(text, "parse Location header") { // it shows all of the Location
		return errors.New("the Location of a redirect is not a URL")
	}
	if scrubbed := scrubText(text, hidden); scrubbed != text {
		return errors.New(scrubbed)
	}
	return err
}

// sameHost reports whether secrets meant for one URL may be sent to another: both have the same host and port, or the
// step is from http to https on their usual ports. It is never allowed from https to http.
func sameHost(meant, other *url.URL) bool {
	if !strings.EqualFold(meant.Hostname(), other.Hostname()) {
		return false
	}
	if meant.Scheme == other.Scheme {
		return port(meant) == port(other)
	}
	return meant.Scheme == "http" && other.Scheme == "https" && port(meant) == "80" && port(other) == "443"
}

// port returns the port of a URL, or the usual one of its scheme.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}
