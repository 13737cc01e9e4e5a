package login

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// IsStale says whether an error of etcd's means that the token of a request, or of the stream that it came over, is not
// good any more: it has expired, the users have changed, or there were none before. A new token helps, on a new stream.
func IsStale(err error) bool {
	return tells(err, rpctypes.ErrGRPCInvalidAuthToken) || tells(err, rpctypes.ErrGRPCAuthOldRevision) ||
		tells(err, rpctypes.ErrGRPCUserEmpty)
}

// IsDenied says whether an error of etcd's means that the user must not do what was asked for. etcd 3.4 says it, too,
// of a watch on a stream whose token is not good any more.
func IsDenied(err error) bool { return tells(err, rpctypes.ErrGRPCPermissionDenied) }

// IsRefused says whether an error means that etcd does not take the user's password.
func IsRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) || tells(err, rpctypes.ErrGRPCAuthFailed)
}

// tells looks at the text, as what etcd says of a watch comes as nothing else, with "rpc error" in front of it.
func tells(err, what error) bool {
	return err != nil && strings.Contains(err.Error(), rpctypes.ErrorDesc(what))
}
