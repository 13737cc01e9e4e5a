// Package journal records what members did to resources, and finds out whether every resource was handled exactly once.
//
// Whatever the members' handlers talk to appends to a Journal: a webhook receiver, a file, the handler itself. The
// order of the events is the order in which they were recorded, so that no clock is compared with another. Timeline
// turns the events into handlings, each from a handle to the event that ended it; Check finds the faults in them. The
// demo, the end-to-end tests and the chaos tests all judge by it.
package journal
