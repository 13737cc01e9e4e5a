// Package jsontext makes JSON that keeps what it is given as it is. encoding/json's Marshal writes <, > and & as
// escapes, so that JSON may stand in a web page; what people put into a resource is shown and handed on as they wrote
// it.
package jsontext

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal that leaves <, > and & as they are, also in a json.RawMessage.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
