package keys

// WrittenByOperators are the prefixes and keys that the commands of operators write: orders, and what is allocated.
// What makes, restores, deletes or divides an app as a whole writes everything in it.
func (l Layout) WrittenByOperators() []string {
	return []string{
		l.Config(), // allocate --create
		l.Orders(), l.Drains(), l.Cordons(), l.Weights(), l.Pins(), l.Exceptions(),
		l.Shards(), l.Source(), l.Deallocations(),
	}
}

// WrittenByMembers are the prefixes and keys that members write, and those who supervise them.
func (l Layout) WrittenByMembers() []string {
	return []string{
		l.Config(), l.Group(), l.Shards(), l.Source(), l.Figures(), l.Loads(), l.Orders(), l.Deallocations(),
		l.Alone(), l.AllDeaths(), l.AllLives(),
	}
}
