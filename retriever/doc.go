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
// ignored. Items that are something else are bad, one by one: beside the good ones comes a *drm.BadItemsError that says
// which they are and what was found, with a *drm.InputError or *DuplicateError for each. What a manager makes of that,
// drm.Config.SourceStrict tells. Anything else is an error about the whole answer, no part of which is used: a
// *drm.InputError for the body, a *SyntaxError for what is not JSON or ends early (in an *ItemError where that is
// within an item), a *TooLargeError for too much of it.
//
// No error tells data: it names fields, types and ids. Ids are no place for secrets.
package retriever
