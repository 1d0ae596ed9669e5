package spool

import "cmp"

// queue is the items of a route that wait, what is due first in front. It is used
// through container/heap, as agenda is.
type queue []*entry

func (q queue) Len() int { return len(q) }

// Less puts the oldest first among those that are due at once.
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(cmp.Compare(a.next, b.next), cmp.Compare(a.since, b.since), cmp.Compare(a.id, b.id)) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil // so that it can be collected
	*q = (*q)[:last]
	e.index = -1
	return e
}

// agenda is the routes that can start something later, the next one in front.
type agenda []*route

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].wakeAt < a[j].wakeAt }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (a *agenda) Push(x any) {
	r := x.(*route)
	r.index = len(*a)
	*a = append(*a, r)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	r := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	r.index = -1
	return r
}
