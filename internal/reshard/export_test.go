package reshard

// Interrupt makes a Job call f after each write, and end with its error.
func (j *Job) Interrupt(f func(what string) error) { j.wrote = f }
