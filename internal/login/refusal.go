package login

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// IsStale says whether an error of etcd means that the token of a request, or of the stream that the error came over,
// is no longer good: it has expired, the users have changed, or there were no users before. A new token on a new stream
// helps.
func IsStale(err error) bool {
	return tells(err, rpctypes.ErrGRPCInvalidAuthToken) || tells(err, rpctypes.ErrGRPCAuthOldRevision) ||
		tells(err, rpctypes.ErrGRPCUserEmpty)
}

// IsDenied says whether an error of etcd means that the user is not allowed what was asked for. etcd 3.4 also says this
// about a watch on a stream whose token is no longer good.
func IsDenied(err error) bool { return tells(err, rpctypes.ErrGRPCPermissionDenied) }

// IsRefused says whether an error means that etcd does not accept the user's password.
func IsRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) || tells(err, rpctypes.ErrGRPCAuthFailed)
}

// tells compares texts, since what etcd says about a watch comes only as text, with "rpc error" in front of it.
func tells(err, what error) bool {
	return err != nil && strings.Contains(err.Error(), rpctypes.ErrorDesc(what))
}
