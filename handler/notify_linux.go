package handler

import "crypto/rand"

// socketNames makes names of sockets in the abstract namespace, so that nothing of them is left behind, however the
// agent ends.
type socketNames struct{}

func (*socketNames) next() (name string, drop func(), err error) {
	return "@drm-notify-" + rand.Text(), func() {}, nil
}

func (*socketNames) remove() {}
