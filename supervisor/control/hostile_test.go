package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// mustAnswer proves that the server still serves its owner.
func mustAnswer(t *testing.T, h *harness) {
	t.Helper()
	h.uid.Store(uint32(os.Geteuid()))
	if got := h.ask(t, "ping", nil); got.outcome()["Status"] != true {
		t.Fatalf("ping: %v", got.outcome())
	}
}

func TestGarbageClosesOnlyItsConnection(t *testing.T) {
	number := func(n uint16, tail ...byte) []byte { return append(binary.BigEndian.AppendUint16(nil, n), tail...) }
	tests := map[string][]byte{
		"one byte":             {7},
		"zeros":                make([]byte, 512),
		"unknown number":       number(60000, 0x80),
		"a worker's message":   number(40, 0x80),
		"our own reply":        number(91, 0x80),
		"no map":               number(90),
		"truncated map":        number(90, 0x83, 0xa7, 'v'),
		"map of four billion":  number(90, 0xdf, 0xff, 0xff, 0xff, 0xff),
		"bytes behind the map": number(90, 0x80, 0x00),
		"wrong types":          number(90, 0x81, 0xa7, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0xa1, 'x'),
		"largest packet":       number(90, make([]byte, ipc.MaxPacket-2)...),
	}
	sup := &fake{}
	h := serve(t, sup, Options{})
	for name, packet := range tests {
		t.Run(name, func(t *testing.T) {
			sock := h.dial(t)
			if _, err := sock.Write(packet); err != nil {
				t.Fatal(err)
			}
			mustEOF(t, sock)
		})
	}
	if calls := sup.seen(); len(calls) > 0 {
		t.Errorf("the supervisor saw %q", calls)
	}
	mustAnswer(t, h)
}

func TestDescriptorsFromOutsideAreClosed(t *testing.T) {
	h := serve(t, &fake{}, Options{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sock := h.dial(t)
	packet := binary.BigEndian.AppendUint16(nil, 90)
	fd := int(w.Fd())
	if _, _, err := sock.WriteMsgUnix(append(packet, 0x80), unix.UnixRights(fd), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	mustEOF(t, sock)
	_ = r.SetReadDeadline(time.Now().Add(limit))
	if _, err := r.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the pipe is still open for writing: %v", err)
	}
}

func TestSilentClientIsDropped(t *testing.T) {
	h := serve(t, &fake{}, Options{RequestTimeout: 20 * time.Millisecond})
	mustEOF(t, h.dial(t))
}

func TestClientThatClosesAtOnceLeavesNothing(t *testing.T) {
	h := serve(t, &fake{}, Options{})
	for range 50 {
		h.dial(t).Close()
	}
	half := h.dial(t)
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	mustEOF(t, half)
	waitFor(t, func() bool { return canAnswer(t, h) })
}

// canAnswer asks once, and reports whether there was an answer: a server whose places are
// all taken closes the connection.
func canAnswer(t *testing.T, h *harness) bool {
	t.Helper()
	_, err := h.send(t, &ipc.ControlRequest{Version: ipc.Version, Command: "ping"})
	return err == nil
}

func TestClientThatNeverReadsIsDroppedAndDelaysNobody(t *testing.T) {
	h := serve(t, &fake{history: 1 << 20}, Options{ReplyTimeout: 50 * time.Millisecond})
	var deaf []*net.UnixConn
	for range 4 {
		sock := h.dial(t)
		conn := ipc.NewConn(sock, ipc.RoleControl, ipc.RoleSupervisor, nil)
		if err := conn.Send(&ipc.ControlRequest{Version: ipc.Version, Command: "failover-history"}); err != nil {
			t.Fatal(err)
		}
		deaf = append(deaf, sock)
	}
	mustAnswer(t, h)
	for _, sock := range deaf {
		waitFor(t, func() bool { return closedByPeer(t, sock) })
	}
}

// closedByPeer looks for the end of the connection without reading.
func closedByPeer(t *testing.T, sock *net.UnixConn) bool {
	t.Helper()
	raw, err := sock.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var revents int16
	if err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(fds, 0); err == nil && n == 1 {
			revents = fds[0].Revents
		}
	}); err != nil {
		t.Fatal(err)
	}
	return revents&(unix.POLLHUP|unix.POLLRDHUP) != 0
}

func TestStrangersCantCrowdOutTheOwner(t *testing.T) {
	h := serve(t, &fake{}, Options{RequestTimeout: time.Hour})
	h.uid.Store(stranger)
	for range maxOthers {
		h.dial(t) // says nothing for the time of the request
	}
	mustEOF(t, h.dial(t))
	mustAnswer(t, h)
}

func TestNoMoreThanMaxClientsAtOnce(t *testing.T) {
	h := serve(t, &fake{}, Options{RequestTimeout: time.Hour})
	first := h.dial(t)
	for range MaxClients - 1 {
		h.dial(t)
	}
	mustEOF(t, h.dial(t))
	first.Close()
	waitFor(t, func() bool { return canAnswer(t, h) })
}

func TestEndDropsSilentClients(t *testing.T) {
	h := serve(t, &fake{}, Options{})
	sock := h.dial(t)
	mustAnswer(t, h)
	h.end(t)
	mustEOF(t, sock)
}

func TestCommandThatPanicsFailsAlone(t *testing.T) {
	var log bytes.Buffer
	sup := &fake{}
	sup.panic.Store(true)
	h := serve(t, sup, Options{Log: logline.New(&log, "", slog.LevelInfo, "p")})
	for _, command := range []string{"status", "failover-pause"} {
		got := h.ask(t, command, nil).outcome()
		if got["Status"] != false || !strings.Contains(fmt.Sprint(got["Message"]), "internal error") {
			t.Errorf("%s: %v", command, got)
		}
	}
	sup.panic.Store(false)
	mustAnswer(t, h)
	h.end(t)
	if !strings.Contains(log.String(), "panic=\"a bug\"") || !strings.Contains(log.String(), "fake_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log.String())
	}
}

// An operator who interrupts a command that waits has changed his mind.
func TestCommandEndsWhenItsClientIsGone(t *testing.T) {
	sup := &fake{block: true, blocked: make(chan struct{}), ended: make(chan error, 1)}
	h := serve(t, sup, Options{ReplyTimeout: time.Nanosecond}) // it doesn't limit the wait for the client's end
	conn := ipc.NewConn(h.dial(t), ipc.RoleControl, ipc.RoleSupervisor, nil)
	defer conn.Close()
	if err := conn.Send(&ipc.ControlRequest{Version: ipc.Version, Command: control.Pause, Args: map[string]string{"database": "all"}}); err != nil {
		t.Fatal(err)
	}
	<-sup.blocked
	select {
	case err := <-sup.ended:
		t.Fatalf("the command has ended while its client waits: %v", err)
	default:
	}
	conn.Close()
	select {
	case err := <-sup.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the command ends with %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the command goes on without its client")
	}
}
