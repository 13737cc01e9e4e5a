// Package jsontext makes JSON that keeps its texts as they are. Marshal of encoding/json writes <, > and & as escapes,
// so that the JSON may stand in a web page; what people put into a resource must be shown and handed on as they wrote
// it.
package jsontext

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal, except that it leaves <, > and & as they are, also in a json.RawMessage.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
