package health_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/prober/health"
)

func TestStoppedCancelRequestIsNotDeliveredLater(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- health.Cancel(ctx, health.Target{Network: "tcp", Address: ln.Addr().String()}, 42, []byte("abcd"))
	}()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err == nil {
		t.Error("a request that was stopped counts as carried out")
	}
	if _, err := io.Copy(io.Discard, nc); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v, not a reset", err)
	}
}
