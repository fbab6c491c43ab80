package supervisor

import (
	"container/heap"
	"time"
)

// timer is one deadline of the loop. It fires at most once.
type timer struct {
	when time.Duration
	f    func()
	pos  int // index in the heap, -1 if it isn't in the heap
}

// timers are the deadlines of the loop, earliest first.
type timers struct{ heap timerHeap }

// at calls f in the loop at that time.
func (t *timers) at(when time.Duration, f func()) *timer {
	x := &timer{when: when, f: f}
	heap.Push(&t.heap, x)
	return x
}

// stop cancels a timer. It does nothing for nil and for a timer that has fired.
func (t *timers) stop(x *timer) {
	if x == nil {
		return
	}
	x.f = nil // run may be about to fire it in the present batch
	if x.pos >= 0 {
		heap.Remove(&t.heap, x.pos)
	}
}

// next returns the earliest deadline.
func (t *timers) next() (time.Duration, bool) {
	if len(t.heap) == 0 {
		return 0, false
	}
	return t.heap[0].when, true
}

// run fires the timers that are due at now. Timers that these set wait for the next
// turn even if they are due at once, so that they can't keep the loop busy forever.
func (t *timers) run(now time.Duration) {
	var due []*timer
	for len(t.heap) > 0 && t.heap[0].when <= now {
		due = append(due, heap.Pop(&t.heap).(*timer))
	}
	for i, x := range due {
		if x.f == nil {
			continue
		}
		f := x.f
		due[i].f = nil
		f()
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].when < h[j].when }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].pos, h[j].pos = i, j }

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.pos = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.pos = -1
	return t
}
