package drm

import "github.com/distributed-resource-manager/drm/internal/events"

// The kinds of events about who handles what.
const (
	// EventClaimed: a member has made a claim; Token is that of the claim.
	EventClaimed = EventKind(events.Claimed)
	// EventActive: Handle has succeeded; of many resources at once: Resources and Count.
	EventActive = EventKind(events.Active)
	// EventFailed: Handle failed, or what it began.
	EventFailed = EventKind(events.Failed)
	// EventRecovered: active again under the same claim.
	EventRecovered = EventKind(events.Recovered)
	// EventHandling: not active any more under the same claim: the handler is to be called again.
	EventHandling = EventKind(events.Handling)
	// EventSlow: a call of the handler takes long; Detail says which.
	EventSlow = EventKind(events.Slow)
	// EventReleased: the member has deleted its claim.
	EventReleased = EventKind(events.Released)
	// EventLost: the claim's lease has ended.
	EventLost = EventKind(events.Lost)
	// EventQuarantined: a member has the claim, and does not handle the resource.
	EventQuarantined = EventKind(events.Quarantined)
	// EventFreed: the record of quarantine is gone.
	EventFreed = EventKind(events.Freed)
)

// The kinds of events about members.
const (
	// EventMemberJoined: its key is there.
	EventMemberJoined = EventKind(events.MemberJoined)
	// EventMemberActive: it takes its share.
	EventMemberActive = EventKind(events.MemberActive)
	// EventMemberUnready: it says that it cannot work; Why says why.
	EventMemberUnready = EventKind(events.MemberUnready)
	// EventMemberReady: it can work again.
	EventMemberReady = EventKind(events.MemberReady)
	// EventMemberLeaving: it stops.
	EventMemberLeaving = EventKind(events.MemberLeaving)
	// EventMemberLeft: its key is gone, after it was leaving.
	EventMemberLeft = EventKind(events.MemberLeft)
	// EventMemberDied: its key is gone, and it was not leaving: its lease has ended.
	EventMemberDied = EventKind(events.MemberDied)
	// EventMemberChanged: it says something else of itself; Detail has what.
	EventMemberChanged = EventKind(events.MemberChanged)
	// EventMemberFull: it declines shards.
	EventMemberFull = EventKind(events.MemberFull)
	// EventMemberRoom: it declines none any more.
	EventMemberRoom = EventKind(events.MemberRoom)
	// EventMemberFlapping: it starts again and again; Count says how often.
	EventMemberFlapping = EventKind(events.MemberFlapping)
	// EventMemberReserved: it has stopped, and is expected back until Until.
	EventMemberReserved = EventKind(events.MemberReserved)
	// EventReservationEnded: it is back, or not expected any more.
	EventReservationEnded = EventKind(events.ReservationEnded)
	// EventCoordinatorElected: Token is the key's create revision.
	EventCoordinatorElected = EventKind(events.CoordinatorElected)
	// EventCoordinatorLost: nobody is in office.
	EventCoordinatorLost = EventKind(events.CoordinatorLost)
	// EventSchemaRaised: Count is the group's schema now.
	EventSchemaRaised = EventKind(events.SchemaRaised)
)

// The kinds of events about the catalogue. By is source, allocation or both.
const (
	// EventResourceAdded: the catalogue has the resource.
	EventResourceAdded = EventKind(events.ResourceAdded)
	// EventResourceChanged: its data are others.
	EventResourceChanged = EventKind(events.ResourceChanged)
	// EventResourceSuspended: it was deallocated, and the source has it or may have it.
	EventResourceSuspended = EventKind(events.ResourceSuspended)
	// EventResourceWoken: it is wanted again.
	EventResourceWoken = EventKind(events.ResourceWoken)
	// EventResourceOrigin: something else wants it than before: By.
	EventResourceOrigin = EventKind(events.ResourceOrigin)
	// EventResourceRemoved: the catalogue has it no more.
	EventResourceRemoved = EventKind(events.ResourceRemoved)
)

// The kinds of events about where shards and resources are placed.
const (
	// EventExceptionPlaced: the coordinator has placed a shard; Why says why.
	EventExceptionPlaced = EventKind(events.ExceptionPlaced)
	// EventExceptionDropped: the ring decides again.
	EventExceptionDropped = EventKind(events.ExceptionDropped)
	// EventResourceMoved: the resource belongs to Member, since it failed at From.
	EventResourceMoved = EventKind(events.ResourceMoved)
	// EventResourceMoveEnded: it belongs to the owner of its shard again.
	EventResourceMoveEnded = EventKind(events.ResourceMoveEnded)
)

// The kinds of events about the source.
const (
	// EventFetched: a fetch succeeded, and changed nothing; Count: the resources it had.
	EventFetched = EventKind(events.Fetched)
	// EventSourceChanged: a fetch succeeded, and changed something; Detail says how many.
	EventSourceChanged = EventKind(events.SourceChanged)
	// EventFetchFailed: a fetch failed; Detail says how.
	EventFetchFailed = EventKind(events.FetchFailed)
	// EventRemovalsHeld: Count removals wait for a confirmation.
	EventRemovalsHeld = EventKind(events.RemovalsHeld)
	// EventRemovalsEnded: none waits any more.
	EventRemovalsEnded = EventKind(events.RemovalsEnded)
	// EventRemovalsAccepted: an order to accept was carried out; Count were removed.
	EventRemovalsAccepted = EventKind(events.RemovalsAccepted)
	// EventBadItems: Count items of the answer are no resources.
	EventBadItems = EventKind(events.BadItems)
	// EventSourceForgotten: the source's record is gone.
	EventSourceForgotten = EventKind(events.SourceForgotten)
)

// The kinds of events about failures that end members.
const (
	// EventDeath: a member's process has ended; Detail says how.
	EventDeath = EventKind(events.Death)
	// EventAccused: a record of quarantine says of which deaths.
	EventAccused = EventKind(events.Accused)
	// EventIsolated: the member handles the resource alone, since deaths accuse it.
	EventIsolated = EventKind(events.Isolated)
	// EventIsolationEnded: it does not do so any more.
	EventIsolationEnded = EventKind(events.IsolationEnded)
)

// The kinds of events about operators' orders. By says who gave it, Why has the reason.
const (
	// EventDrained: the member is to hold nothing.
	EventDrained = EventKind(events.Drained)
	// EventUndrained: taken back, or expired: Detail says which.
	EventUndrained = EventKind(events.Undrained)
	// EventCordoned: the member is to take nothing new.
	EventCordoned = EventKind(events.Cordoned)
	// EventUncordoned: taken back, or expired: Detail says which.
	EventUncordoned = EventKind(events.Uncordoned)
	// EventWeighed: the member has the weight Weight.
	EventWeighed = EventKind(events.Weighed)
	// EventUnweighed: the member has its own weight again.
	EventUnweighed = EventKind(events.Unweighed)
	// EventPinned: the shard belongs to the member.
	EventPinned = EventKind(events.Pinned)
	// EventUnpinned: it does so no more.
	EventUnpinned = EventKind(events.Unpinned)
	// EventMoveOrdered: the shard was moved to the member.
	EventMoveOrdered = EventKind(events.MoveOrdered)
	// EventMoveEnded: it is not there by that order any more.
	EventMoveEnded = EventKind(events.MoveEnded)
	// EventRebalanceOrdered: the load is to be evened out.
	EventRebalanceOrdered = EventKind(events.RebalanceOrdered)
	// EventRebalanceEnded: that has begun, or the order has expired.
	EventRebalanceEnded = EventKind(events.RebalanceEnded)
	// EventFetchOrdered: the source is to be asked.
	EventFetchOrdered = EventKind(events.FetchOrdered)
	// EventFetchEnded: it has answered, or the order has expired.
	EventFetchEnded = EventKind(events.FetchEnded)
	// EventAcceptOrdered: the removals that are held are to be made.
	EventAcceptOrdered = EventKind(events.AcceptOrdered)
	// EventAcceptEnded: that was done or refused, or the order has expired.
	EventAcceptEnded = EventKind(events.AcceptEnded)
	// EventRetryOrdered: what has failed is to be tried again at once.
	EventRetryOrdered = EventKind(events.RetryOrdered)
	// EventRetryEnded: its member has begun, or the order has expired.
	EventRetryEnded = EventKind(events.RetryEnded)
	// EventSuspended: the resource is not to be handled, whoever wants it.
	EventSuspended = EventKind(events.Suspended)
	// EventResumed: taken back, or ended by whoever wants the resource.
	EventResumed = EventKind(events.Resumed)
)

// The kinds of events about the app.
const (
	// EventAppCreated: Count is its number of shards.
	EventAppCreated = EventKind(events.AppCreated)
	// EventAppDeleted: its config is gone.
	EventAppDeleted = EventKind(events.AppDeleted)
	// EventReshardBegun: its number of shards is being changed.
	EventReshardBegun = EventKind(events.ReshardBegun)
	// EventReshardEnded: that is done, or was given up.
	EventReshardEnded = EventKind(events.ReshardEnded)
	// EventNotUnderstood: a key or value that DRM would not have written; Detail names it.
	EventNotUnderstood = EventKind(events.NotUnderstood)
)
