package retriever

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// strongAfter is how much later than Last-Modified an answer must have been made for the date to identify what was
// answered: the date has whole seconds, so a file can change twice under one (RFC 9110, section 8.8.2.2).
const strongAfter = 2 * time.Second

// validators are what the next request is made conditional with, and of what they tell.
type validators struct {
	tag  string // for If-None-Match
	date string // for If-Modified-Since; only one of the two is set
	from string // the URL that answered in the end, behind all redirects
}

// validatorsOf takes from an answer what identifies it, nil where nothing does. A tag is sent without the date: a
// server that looks at the date although there is a tag would find an answer unchanged whose tag has changed.
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

// dateOf is the time in Last-Modified, zero where there is none, and whether nothing can have changed under it since.
// The server's own Date decides: no other clock can be compared with the one that made Last-Modified.
func dateOf(header http.Header) (modified time.Time, strong bool) {
	modified, err := http.ParseTime(header.Get("Last-Modified"))
	if err != nil {
		return time.Time{}, false
	}
	answered, err := http.ParseTime(header.Get("Date"))
	return modified, err == nil && answered.Sub(modified) >= strongAfter
}

// isTag reports whether an ETag has the form that RFC 9110 asks for, and something in it. Any other one may mean
// something else in If-None-Match, such as "*".
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

// madeOfDate reports whether a tag has the second of Last-Modified in it, as those of nginx and others do (second and
// size, in hex). Such a tag says no more than the date.
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

// confirmed reports whether a 304 is about the answer that the validators are of. It is not where another URL answered,
// as a redirect led elsewhere; where it names another tag; or where it names another date: a file that was put back has
// an older one than before, and was "not modified since".
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

func finalURL(resp *http.Response) string {
	if resp.Request == nil || resp.Request.URL == nil {
		return ""
	}
	u := *resp.Request.URL
	u.User = nil
	return u.String()
}
