package supervisor

import (
	"slices"
	"testing"
	"time"
)

// Timers that are due together fire together, unless one of them stops another.
func TestStoppedTimerDoesNotFireWithItsBatch(t *testing.T) {
	var all timers
	var fired []string
	var second *timer
	all.at(time.Second, func() {
		fired = append(fired, "first")
		all.stop(second)
	})
	second = all.at(2*time.Second, func() { fired = append(fired, "second") })
	all.at(3*time.Second, func() { fired = append(fired, "third") })
	all.run(time.Minute)
	if !slices.Equal(fired, []string{"first", "third"}) {
		t.Errorf("fired: %v", fired)
	}
}
