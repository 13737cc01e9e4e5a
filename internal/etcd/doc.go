// Package etcd connects to etcd, and tells an etcd that does not answer from one that refuses, and from one that has
// too much to do. What hinders a connection is found out by package reach.
package etcd
