package warnings

// Code identifies what is wrong. It never changes its meaning; docs/codes.md has a section for each.
type Code string

// The codes. Those from 101 on are of drmctl doctor.
const (
	NoMember       Code = "DRM001"
	NoCoordinator  Code = "DRM002"
	DrainsIgnored  Code = "DRM003"
	NobodyTakes    Code = "DRM004"
	AbsentDrain    Code = "DRM005"
	AbsentOrder    Code = "DRM006"
	NotReady       Code = "DRM007"
	UnreadyIgnored Code = "DRM008"
	SchemasApart   Code = "DRM009"
	Awaited        Code = "DRM010"
	LeaseEnds      Code = "DRM011"
	ViewOld        Code = "DRM012"
	CallsStuck     Code = "DRM013"
	Uneven         Code = "DRM014"

	Unassigned  Code = "DRM020"
	Failed      Code = "DRM021"
	Misplaced   Code = "DRM022"
	Quarantined Code = "DRM023"
	NoRoom      Code = "DRM024"
	NoBudget    Code = "DRM025"

	SourceFails Code = "DRM030"
	SourceOld   Code = "DRM031"
	Held        Code = "DRM032"
	BadItems    Code = "DRM033"
	TooLarge    Code = "DRM034"

	NotUnderstood Code = "DRM040"
	NoConfig      Code = "DRM041"
	Resharding    Code = "DRM042"
	BadConfig     Code = "DRM043"

	EtcdLeaderless Code = "DRM050"
	EtcdMemberDown Code = "DRM051"
	EtcdAlarm      Code = "DRM052"
	EtcdFull       Code = "DRM053"
	EtcdSlow       Code = "DRM054"
)

// Codes lists all codes, in order.
func Codes() []Code {
	return []Code{
		NoMember, NoCoordinator, DrainsIgnored, NobodyTakes, AbsentDrain, AbsentOrder, NotReady, UnreadyIgnored,
		SchemasApart, Awaited, LeaseEnds, ViewOld, CallsStuck, Uneven,
		Unassigned, Failed, Misplaced, Quarantined, NoRoom, NoBudget,
		SourceFails, SourceOld, Held, BadItems, TooLarge,
		NotUnderstood, NoConfig, Resharding, BadConfig,
		EtcdLeaderless, EtcdMemberDown, EtcdAlarm, EtcdFull, EtcdSlow,
	}
}

// Severity says how bad something is.
type Severity string

// The severities.
const (
	// Warn: all that should be handled is handled, as far as anybody knows, and something needs a look.
	Warn Severity = "warn"
	// Error: something that should be handled is not, or nobody knows what should be, or nothing keeps it so.
	Error Severity = "error"
)

// severities has the codes that are errors; all others are warnings.
var severities = map[Code]Severity{
	NoMember: Error, NobodyTakes: Error, SchemasApart: Error,
	Unassigned: Error, Failed: Error, Quarantined: Error, NoRoom: Error,
	SourceOld: Error, TooLarge: Error,
	NoConfig: Error, Resharding: Error, BadConfig: Error,
	EtcdLeaderless: Error, EtcdAlarm: Error,
}

// passing has the codes of what may be seen in a healthy app, for a moment.
var passing = map[Code]bool{
	NoCoordinator: true, LeaseEnds: true, Unassigned: true, Misplaced: true, SourceFails: true, EtcdSlow: true,
}

// Severity returns how bad what the code stands for is.
func (c Code) Severity() Severity {
	if s, is := severities[c]; is {
		return s
	}
	return Warn
}

// Passing says whether it may be seen in a healthy app, for a moment.
func (c Code) Passing() bool { return passing[c] }
