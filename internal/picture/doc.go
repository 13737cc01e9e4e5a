// Package picture reads an app's state in etcd, for whoever looks at the app without changing it. A Reader reads
// everything at one revision (Picture), the members alone (Roll), or one resource (Assignment). It waits for a state of
// a resource, a member or an order, finds violations of the rules, and follows changes of ownership.
//
// The package decides nothing about the app, and writes nothing to etcd. Its values are plain: the root package gives
// them the names and the documentation that users of the library see.
package picture
