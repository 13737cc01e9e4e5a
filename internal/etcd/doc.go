// Package etcd connects to etcd. It distinguishes an etcd that does not answer from one that refuses, and from one that
// is overloaded. Package reach finds out what hinders a connection.
package etcd
