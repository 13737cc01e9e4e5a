// Package retriever has the sources that resources come from, each a drm.Retriever:
//
//   - HTTP asks a URL. It tries again what may pass, asks only for changes, follows pages if told to, and keeps secrets
//     out of errors and away from other hosts.
//   - File reads a file, again when it changed if told to.
//   - SQL runs a query of any database that database/sql has a driver for.
//   - Static always answers the same, and Func whatever a function returns.
//
// HTTP and File expect JSON of this form, as does Decode, which they use:
//
//	{"data": [{"id": "a", "any": "thing"}, {"id": "b"}]}
//
// Each item is an object with an "id", a string of 1 to drm.MaxIDBytes bytes without control characters, which no other
// item has. Further fields of an item are kept and handed to the handler; further fields beside "data" are allowed and
// ignored. Anything else is an error that says which item it is about and what was found: an *ItemError around a
// *drm.InputError or *DuplicateError for an item, a *drm.InputError for the body as a whole, a *SyntaxError for what is
// not JSON or ends early, a *TooLargeError for too much of it. No part of such an answer is used.
package retriever
