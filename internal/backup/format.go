package backup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Version is the version of the format of a dump.
const Version = 1

// Header is the first line of a dump.
type Header struct {
	Version  int    `json:"drm_dump"`
	App      string `json:"app"`
	Prefix   string `json:"prefix"`
	Revision int64  `json:"revision"` // etcd's, at which all keys were read
	Shards   int    `json:"shards"`   // 0: the app's config could not be read, so that the dump cannot be loaded
	Schema   int    `json:"schema"`   // of the app's config
	Created  int64  `json:"created"`  // the create revision of the app's config
	Data     bool   `json:"data"`     // the resources' data are not redacted
}

// Line is a key of a dump. The value is in one of three fields, or Redacted describes it.
type Line struct {
	Key      string          `json:"key"`              // without the app's root
	Value    json.RawMessage `json:"value,omitempty"`  // where it is JSON without white space
	Text     *string         `json:"text,omitempty"`   // where it is any other text
	Base64   *string         `json:"base64,omitempty"` // where it is no text
	Redacted *Redacted       `json:"redacted,omitempty"`
	Lease    string          `json:"lease,omitempty"` // in hexadecimal digits, as in keys and as etcdctl prints it
	Created  int64           `json:"created"`         // the create revision
	Modified int64           `json:"modified"`        // the mod revision
}

// Redacted stands for a resource's data.
type Redacted struct {
	Bytes  int    `json:"bytes"`
	Digest string `json:"digest"` // as in records of quarantine
}

// Footer is the last line of a dump.
type Footer struct {
	End       bool   `json:"drm_dump_end"`
	Keys      int    `json:"keys"`
	Resources int    `json:"resources"`
	Claims    int    `json:"claims"`
	Members   int    `json:"members"`
	SHA256    string `json:"sha256"` // of all lines before this one, with their ends
}

// count counts a key.
func (f *Footer) count(kind keys.Kind) {
	f.Keys++
	switch kind {
	case keys.Resource:
		f.Resources++
	case keys.Claim:
		f.Claims++
	case keys.Member:
		f.Members++
	}
}

// encode appends a line to b.
func encode(b *bytes.Buffer, v any) error {
	text, err := jsontext.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of the dump: %w", err)
	}
	b.Write(text)
	b.WriteByte('\n')
	return nil
}

// lineOf is the line of a key.
func (a *App) lineOf(kv *mvccpb.KeyValue, data bool) Line {
	l := Line{
		Key: string(kv.Key[len(a.Layout.Root()):]), Created: kv.CreateRevision, Modified: kv.ModRevision,
	}
	if kv.Lease != 0 {
		l.Lease = strconv.FormatInt(kv.Lease, 16)
	}
	switch kind := a.Layout.Parse(string(kv.Key)).Kind; {
	case data && (kind == keys.Resource || kind == keys.Foreign):
		l.setValue(kv.Value)
	case kind == keys.Resource:
		l.redactEntry(kv.Value)
	case kind == keys.Foreign:
		l.redact(kv.Value)
	default:
		l.setValue(withoutPasswords(kv.Value))
	}
	return l
}

// setValue sets the field that has a value as it is, to the byte.
func (l *Line) setValue(value []byte) {
	switch {
	case isCompact(value):
		l.Value = value
	case utf8.Valid(value):
		text := string(value)
		l.Text = &text
	default:
		text := base64.StdEncoding.EncodeToString(value)
		l.Base64 = &text
	}
}

// isCompact says whether a text is JSON that is written again as it is. null would be written as no value at all.
func isCompact(value []byte) bool {
	if !utf8.Valid(value) || !json.Valid(value) || string(value) == "null" {
		return false
	}
	var b bytes.Buffer
	return json.Compact(&b, value) == nil && bytes.Equal(b.Bytes(), value)
}

// redactEntry sets the value of a catalogue entry without its data.
func (l *Line) redactEntry(value []byte) {
	e, err := catalogue.Decode(value)
	if err != nil {
		l.redact(value)
		return
	}
	l.Redacted = redacted(e.Data)
	e.Data = json.RawMessage(`null`)
	l.Value = e.Encode()
}

// redact describes a value of which nothing is shown.
func (l *Line) redact(value []byte) { l.Redacted = redacted(value) }

func redacted(value []byte) *Redacted { return &Redacted{len(value), core.Digest(value)} }

// password matches the part of a URL that may have a password, such as errors may have taken over from a source.
var password = regexp.MustCompile(`://[^/@\s"\\]*@`)

// withoutPasswords hides what URLs in a value have in front of the host.
func withoutPasswords(value []byte) []byte {
	if !bytes.Contains(value, []byte("://")) {
		return value
	}
	return password.ReplaceAll(value, []byte("://***@"))
}

// bytesOf is the value of a line. It is nil if the line has none, or not exactly one.
func (l *Line) bytesOf() ([]byte, error) {
	var all [][]byte
	if l.Value != nil {
		all = append(all, l.Value)
	}
	if l.Text != nil {
		all = append(all, []byte(*l.Text))
	}
	if l.Base64 != nil {
		b, err := base64.StdEncoding.DecodeString(*l.Base64)
		if err != nil {
			return nil, fmt.Errorf("base64: %w", err)
		}
		all = append(all, b)
	}
	if len(all) != 1 {
		return nil, errors.New(`it has no value, or several: want one of "value", "text" and "base64"`)
	}
	return all[0], nil
}
