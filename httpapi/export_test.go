package httpapi

import "time"

// GiveLoop sets how long a member's loop has to answer: tests run on machines that may be slow.
func (h *Handler) GiveLoop(d time.Duration) { h.loop = d }
