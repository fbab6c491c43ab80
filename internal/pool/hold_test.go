package pool

import "testing"

// Otherwise a worker that doesn't care for a pause opens a connection to a server that is being restarted.
func TestHeldPoolsGetNoLease(t *testing.T) {
	a, b := Key{Database: "a", User: "u"}, Key{Database: "b", User: "u"}
	heldA := func(k Key) bool { return k == a }
	l := NewLedger(2, nil)
	l.SetTarget(0, 1, true)
	first, second := only[Grant](l.Request(0, 1, b, NoRule, 0)), only[Grant](l.Request(0, 2, b, NoRule, 0))
	early := l.Request(0, 3, a, NoRule, 1) // reclaims a lease of b
	if len(first) != 1 || len(second) != 1 || len(only[Reclaim](early)) == 0 {
		t.Fatalf("effects %v, %v, %v", first, second, early)
	}
	if cancelled := l.Hold(heldA); len(only[ReclaimCancel](cancelled)) != len(only[Reclaim](early)) {
		t.Errorf("leases are given up for a held pool: %v", cancelled)
	}
	effects, err := l.Return(0, first[0].Lease)
	effects = append(effects, l.Request(0, 4, a, NoRule, 2)...)
	if got := only[Grant](effects); err != nil || len(got) != 0 {
		t.Errorf("a held pool gets %v, %v", got, err)
	}
	if effects := l.Relimit(2, nil, func(Key, int) int { return NoRule }); len(only[Grant](effects)) != 0 {
		t.Errorf("a held pool gets a lease after a reload: %v", effects)
	}
	if n := l.Counts().Waiting; n != 2 || l.Waiting(0) != 2 {
		t.Errorf("%d requests wait", n)
	}
	l.Abandon(0, 3)
	if moved, err := l.HandOver(0, second[0].Lease, 0); err != nil || len(only[Grant](moved)) != 0 {
		t.Errorf("%v, %v", moved, err)
	}
	if got := only[Grant](l.Hold(nil)); len(got) != 1 || got[0].Request != 4 {
		t.Errorf("after the pause requests %v get a lease", got)
	}
}

func only[T Effect](effects []Effect) (list []T) {
	for _, e := range effects {
		if e, ok := e.(T); ok {
			list = append(list, e)
		}
	}
	return list
}
