// Package drm spreads a set of resources over the members of a group, so that exactly one member handles each resource,
// while members join, leave, hang and die. A resource is anything that exactly one process should handle: a websocket
// to another cloud, a webhook to be called once an event, a poller, a subscription. DRM needs etcd, and nothing else.
//
// Each process of the group calls Start with a Handler, which does the work, and usually a Retriever, which lists the
// resources (the packages handler and retriever have ready ones). The Manager that Start returns is one member. Any
// member can also add and remove resources, with Allocate and Deallocate; so can a Client, which looks at an app and
// operates it without being a member.
//
// A member handles a resource under a Claim. The token of the claim rises with each new claim of the resource, whoever
// makes it: pass it to the system that the handler writes to, and let that system refuse lower tokens. Claim.Valid
// tells, cheaply, whether the claim is surely still this member's.
//
// Without a Config.Logger a member is silent, even while Start waits for etcd, for its id or for the source, and while
// a handler fails. Give it a logger: a zap.NewProduction is fine.
//
// This package has the words of DRM, and is a façade. The words are in resource.go, handler.go, retriever.go,
// assignment.go, verify.go, owners.go and errors.go. config.go has every option, manager.go the member, client.go and
// client_source.go the Client. adapt.go calls the user's code. What works below (a member's loop, its calls, its
// source) is in internal packages: docs/design.md describes them.
package drm
