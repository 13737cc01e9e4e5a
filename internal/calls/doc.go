// Package calls makes the calls of the user's handler: Handle, Update and Terminate of each resource, one at a time,
// each in a goroutine of its own, under limits. It owns the contexts that the handler is given, and the claims that it
// checks: they end before anyone else can have the resource, whatever the handler does.
//
// Which call is made when is decided by package core, and told to Calls on the goroutine that owns the core (the loop).
// What came of a call is reported to the core on that goroutine too. Nothing here ever waits for the user's code, save
// the goroutine of that call.
package calls
