package worker

import (
	"testing"
	"unsafe"

	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// There may be very many clients, and most of them are idle: what each keeps fits two
// of the allocator's classes of 128 bytes.
func TestAnIdleClientIsSmall(t *testing.T) {
	for name, size := range map[string]uintptr{
		"session": unsafe.Sizeof(session{}), "relay.Pooled": unsafe.Sizeof(relay.Pooled{}), "relay.Direct": unsafe.Sizeof(relay.Direct{}),
	} {
		if size > 128 {
			t.Errorf("%s has %d bytes", name, size)
		}
	}
}
