package jsontext

import "bytes"

// mark is UTF-8's byte order mark. RFC 8259 forbids to write it before JSON, and allows to ignore it.
const mark = "\xef\xbb\xbf"

// WithoutMark returns a text without the byte order mark with which some programs begin a file.
func WithoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte(mark)) }

// Foreign names what the beginning of a text shows it to be, if it cannot be JSON in UTF-8, and what people often give
// in its place: "HTML", "text in UTF-16". It returns "" for any other text, which need not be JSON.
func Foreign(head []byte) string {
	for _, m := range []struct{ begins, name string }{
		{mark, "text that begins with a byte order mark"},
		{"\x00\x00\xfe\xff", "text in UTF-32"},
		{"\xff\xfe\x00\x00", "text in UTF-32"},
		{"\xff\xfe", "text in UTF-16"},
		{"\xfe\xff", "text in UTF-16"},
		{"\x00\x00\x00{", "text in UTF-32"},
		{"{\x00\x00\x00", "text in UTF-32"},
		{"\x00{", "text in UTF-16"},
		{"{\x00", "text in UTF-16"},
		{"\x1f\x8b", "compressed with gzip"},
	} {
		if bytes.HasPrefix(head, []byte(m.begins)) {
			return m.name
		}
	}
	head = bytes.TrimLeft(head, " \t\r\n")
	if !bytes.HasPrefix(head, []byte("<")) {
		return ""
	}
	switch head = bytes.ToLower(head[:min(len(head), 1024)]); {
	case bytes.Contains(head, []byte("<html")) || bytes.HasPrefix(head, []byte("<!doctype html")):
		return "HTML"
	default:
		return "text that begins with '<', as HTML and XML do"
	}
}
