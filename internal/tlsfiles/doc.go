// Package tlsfiles keeps TLS configurations up to date with the files that they are made of.
//
// Files reads a CA, a certificate and its key each time that it is asked, so that the next connection uses what was
// rotated on disk. Credentials (for gRPC) and Transport (for HTTP) ask for the configuration when they connect.
// crypto/tls itself verifies each connection, with the same names and addresses as always: nothing here verifies by
// hand.
package tlsfiles
