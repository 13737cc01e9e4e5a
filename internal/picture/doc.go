// Package picture reads an app's state in etcd, for whoever looks at the app without changing it. A Reader reads
// everything at one revision (Picture), the members alone (Roll), or one resource; it waits until what it reads is as
// somebody wants it; it finds what is not as it should be (Violation); and it follows who owns what.
//
// It decides nothing about the app, and writes nothing to etcd. Its values are plain: the root package gives them the
// names and the documentation that users of the library see.
package picture
