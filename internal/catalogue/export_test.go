package catalogue

import "time"

// Age makes the memory older by d.
func (y *Sync) Age(d time.Duration) { y.loadedAt = y.loadedAt.Add(-d) }

// ReloadEvery is the age at which the memory is too old.
const ReloadEvery = reloadEvery
