package catalogue

import "time"

// Age makes the memory older.
func (y *Sync) Age(d time.Duration) { y.loadedAt = y.loadedAt.Add(-d) }

// ReloadEvery is when it is too old.
const ReloadEvery = reloadEvery
