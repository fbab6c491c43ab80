package proc

import (
	"runtime/debug"
	"time"
)

const (
	// burstSize is how many arrivals make it worthwhile to return memory.
	burstSize = 500
	// burstCalm is how long no arrival must come until a burst counts as over.
	burstCalm = 15 * time.Second
)

// Burst returns memory to the system once a burst of arrivals is over. Otherwise the
// process would keep the memory that the set-up of the arrivals needed. A Burst belongs to
// one goroutine, on which After must call back.
type Burst struct {
	// After calls a function after a while.
	After func(time.Duration, func())
	// Free returns the memory, on a goroutine of its own; nil means debug.FreeOSMemory.
	Free func()

	recent   int  // arrivals since the last look
	total    int  // arrivals of this burst before that
	watching bool // look is due
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
