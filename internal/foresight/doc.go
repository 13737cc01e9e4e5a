// Package foresight tells what a group of members settles at if something happens to it: a member dies, joins or is
// drained, an operator moves a shard. It is no second opinion on that. A copy of the group's keys is kept in memory,
// and the real parts work on it, in virtual time: order.Desk gives the orders, and refuses what it would refuse;
// membership.Registrar gives members their slots; and placement.Publisher plans and publishes, as the coordinator would
// do with the same rules. Only the steps of the members themselves are a model: they do at once what a view asks of
// them, and say soon what their shards weigh.
//
// What nobody can know beforehand is not in it: loads that change meanwhile, members that come or go besides, and in
// which order things arrive where a coordinator paces what moves. Nothing here talks to etcd.
package foresight
