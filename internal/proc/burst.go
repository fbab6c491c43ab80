package proc

import (
	"runtime/debug"
	"time"
)

const (
	// burstSize is after how many arrivals a garbage collection is worth it.
	burstSize = 500
	// burstCalm is how long without an arrival a burst counts as over.
	burstCalm = 15 * time.Second
)

// Burst returns memory to the system once a burst of arrivals is over: otherwise the
// process would keep the memory of their set-up until the next burst. It belongs to one
// goroutine, on which After calls back.
type Burst struct {
	// After calls a function later.
	After func(time.Duration, func())
	// Free is debug.FreeOSMemory when nil; it is called on a goroutine of its own.
	Free func()

	recent, total int
	watching      bool
}

// Note counts one arrival.
func (b *Burst) Note() {
	b.recent++
	if !b.watching {
		b.watching = true
		b.After(burstCalm, b.look)
	}
}

func (b *Burst) look() {
	if b.recent > 0 {
		b.total += b.recent
		b.recent = 0
		b.After(burstCalm, b.look)
		return
	}
	free := b.Free
	if free == nil {
		free = debug.FreeOSMemory
	}
	if b.total >= burstSize {
		go free()
	}
	b.total, b.watching = 0, false
}
