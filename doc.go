// Package drm keeps a set of resources spread over the members of a group, so that each is handled by exactly one of
// them, and keeps it so while members join, leave, hang and die. A resource is anything that exactly one process should
// be handling: a websocket to another cloud, a webhook to be called once an event, a poller, a subscription. etcd is
// all it needs.
//
// Each process of the group calls Start with a Handler, which does the work, and usually a Retriever, which tells what
// there is to do (see the packages handler and retriever for ready ones). The Manager it gets is one member. Resources
// also come and go with Allocate and Deallocate, from any member or from a Client, which looks at an app and operates
// it without being a member.
//
// A member handles a resource under a Claim. Its token rises with each new claim of the resource, whoever makes it:
// pass it to what the handler writes to, and let that refuse lower ones. Its Valid tells, cheaply, whether the claim is
// surely still this member's.
//
// Without a Config.Logger a member is silent, also while Start waits for etcd, for its id or for the source, and while
// a handler fails. Give it one: a zap.NewProduction is fine.
//
// This package has the words, and is a façade: resource.go, handler.go, retriever.go, assignment.go and errors.go are
// the words, config.go is every option, manager.go a member, and client.go what looks at an app from outside. adapt.go
// is where the user's code is called. What works below (a member's loop, its calls, its source) is in internal
// packages, of which docs/design.md tells.
package drm
