// Package tlsfiles keeps TLS configurations up to date with the files that they are made of.
//
// Files reads a CA, a certificate and its key each time that it is asked, so that what was rotated on disk counts for
// the next connection. Credentials (gRPC) and Transport (HTTP) ask for the configuration when they connect. Each
// connection is verified by crypto/tls itself, with the names and addresses that it would have been verified with:
// nothing here verifies by hand.
package tlsfiles
