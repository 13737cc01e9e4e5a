// Package calls makes the calls of the user's handler: Handle, Update and Terminate of each resource, one at a time,
// each in a goroutine of its own, under limits. It owns the contexts that the handler is given, and the claims that the
// handler checks. They end before another member can have the resource, whatever the handler does.
//
// Package core decides which call is made when. The goroutine that owns the core (the loop) passes its decisions to
// Calls, and gets the results of the calls. Nothing but the goroutine of a call ever waits for the user's code.
package calls
