package worker

import (
	"testing"
	"unsafe"

	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// There may be very many clients, most of them idle. What each keeps must fit into two
// blocks of 128 bytes.
func TestAnIdleClientIsSmall(t *testing.T) {
	for name, size := range map[string]uintptr{
		"session": unsafe.Sizeof(session{}), "relay.Pooled": unsafe.Sizeof(relay.Pooled{}), "relay.Direct": unsafe.Sizeof(relay.Direct{}),
	} {
		if size > 128 {
			t.Errorf("%s has %d bytes", name, size)
		}
	}
}
