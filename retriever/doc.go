// Package retriever has the sources that resources come from. Each is a drm.Retriever:
//
//   - HTTP asks a URL. It repeats requests whose failure may pass, asks for the list only if it has changed, follows
//     pages if it is configured to, and keeps secrets out of errors and away from other hosts.
//   - File reads a file. If it is configured to, it makes DRM read the file again soon after a change.
//   - SQL runs a query on any database that database/sql has a driver for.
//   - Static always returns the same resources, and Func what a function returns.
//
// HTTP and File expect JSON of this form, as does Decode, which they use:
//
//	{"data": [{"id": "a", "any": "thing"}, {"id": "b"}]}
//
// Each item is an object with an "id", a string of 1 to drm.MaxIDBytes bytes without control characters, which no other
// item has. Further fields of an item are kept and given to the handler. Further fields beside "data" are ignored.
//
// An item that is something else is bad, and does not spoil the others: the good items are returned together with a
// *drm.BadItemsError that says which items are bad and why, with a *drm.InputError or *DuplicateError for each.
// drm.Config.SourceStrict says what a manager does then.
//
// Any other error is about the whole answer, of which no part is used: a *drm.InputError about the body; a *SyntaxError
// if the answer is not JSON or ends early, inside an *ItemError if that is within an item; a *TooLargeError if the
// answer is too large.
//
// Errors name fields, types and ids, but never show data. So ids must not be secrets.
package retriever
