package retriever

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// strongAfter is how much later than its Last-Modified an answer must have been made for that date to identify it. The
// date has whole seconds, so a file can change twice within one (RFC 9110, section 8.8.2.2).
const strongAfter = 2 * time.Second

// validators identify an answer, and make the next request conditional. Either tag or date is set.
type validators struct {
	tag  string // for If-None-Match
	date string // for If-Modified-Since
	from string // the URL that gave the answer, after all redirects
}

// validatorsOf returns what identifies an answer, or nil if nothing does. If there is a tag, the date is not sent: a
// server that compares the date in spite of the tag would call an answer unchanged although its tag has changed.
func validatorsOf(resp *http.Response) *validators {
	date, strong := dateOf(resp.Header)
	v := &validators{from: finalURL(resp)}
	switch tag := resp.Header.Get("ETag"); {
	case isTag(tag) && (strong || !madeOfDate(tag, date)):
		v.tag = tag
	case strong && !date.IsZero():
		v.date = resp.Header.Get("Last-Modified")
	default:
		return nil
	}
	return v
}

// dateOf returns the time in Last-Modified, zero if there is none. strong says that a later change must have a later
// Last-Modified. That is decided by the server's own Date, because no other clock can be compared with the one that
// made Last-Modified.
func dateOf(header http.Header) (modified time.Time, strong bool) {
	modified, err := http.ParseTime(header.Get("Last-Modified"))
	if err != nil {
		return time.Time{}, false
	}
	answered, err := http.ParseTime(header.Get("Date"))
	return modified, err == nil && answered.Sub(modified) >= strongAfter
}

// isTag reports whether an ETag has the form that RFC 9110 asks for, and is not empty. Other values may have a meaning
// of their own in If-None-Match, as "*" has.
func isTag(tag string) bool {
	opaque := strings.TrimPrefix(tag, "W/")
	if len(opaque) < 3 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
		return false
	}
	for _, c := range []byte(opaque[1 : len(opaque)-1]) {
		if c <= ' ' || c == '"' || c == 0x7f {
			return false
		}
	}
	return true
}

// madeOfDate reports whether a tag contains the second of Last-Modified. nginx and others make a tag of that second and
// the size, in hex. Such a tag says no more than the date.
func madeOfDate(tag string, modified time.Time) bool {
	if modified.IsZero() {
		return false
	}
	parts := strings.FieldsFunc(strings.ToLower(strings.TrimPrefix(tag, "W/")), func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z')
	})
	second := modified.Unix()
	return slices.Contains(parts, strconv.FormatInt(second, 16)) ||
		slices.Contains(parts, strconv.FormatInt(second, 10))
}

// set makes a request conditional.
func (v *validators) set(header http.Header) {
	switch {
	case v == nil:
	case v.tag != "":
		header.Set("If-None-Match", v.tag)
	default:
		header.Set("If-Modified-Since", v.date)
	}
}

// confirmed reports whether a 304 is about the answer that the validators identify. It is not if it comes from another
// URL, because a redirect now leads elsewhere, or if it names another tag or another date. (An older file that was put
// back has an older date, and so was "not modified since".)
func (v *validators) confirmed(resp *http.Response) bool {
	if finalURL(resp) != v.from {
		return false
	}
	if v.tag != "" {
		tag := resp.Header.Get("ETag")
		return tag == "" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(v.tag, "W/")
	}
	date := resp.Header.Get("Last-Modified")
	return date == "" || date == v.date
}

// finalURL returns the URL that gave the answer, after all redirects, without userinfo.
func finalURL(resp *http.Response) string {
	if resp.Request == nil || resp.Request.URL == nil {
		return ""
	}
	u := *resp.Request.URL
	u.User = nil
	return u.String()
}
