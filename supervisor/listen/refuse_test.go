package listen

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// TestARefusalWaitsForNoClient: the socket of a client that says nothing would make a read wait.
func TestARefusalWaitsForNoClient(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(pair[1]), "client")
	defer client.Close()
	refused := make(chan struct{})
	go func() {
		Refuse(Client{FD: pair[0]}, pgwire.RefusalTooManyWaiting.With())
		close(refused)
	}()
	select {
	case <-refused:
	case <-time.After(20 * time.Second):
		t.Error("it waits for the client")
	}
	if err := unix.Shutdown(pair[1], unix.SHUT_WR); err != nil { // ends a refusal that waits, so that the test ends
		t.Log(err)
	}
	if told, err := io.ReadAll(client); err != nil || !strings.Contains(string(told), "53300") {
		t.Errorf("the client is told %q, %v", told, err)
	}
}
