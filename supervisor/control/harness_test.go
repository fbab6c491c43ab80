package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of these tests.
const limit = 20 * time.Second

const stranger = 4242

// harness is a Serve on a socket of its own.
type harness struct {
	path string
	uid  atomic.Uint32 // of every client that connects from now on
	stop context.CancelFunc
	done chan error
}

func serve(t *testing.T, sup Supervisor, opt Options) *harness {
	t.Helper()
	h := &harness{path: filepath.Join(t.TempDir(), "s"), done: make(chan error, 1)}
	h.uid.Store(uint32(os.Geteuid()))
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: h.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	opt.Version = "9.9"
	if opt.PeerUID == nil {
		opt.PeerUID = func(*ipc.Conn) (uint32, error) { return h.uid.Load(), nil }
	}
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.done <- Serve(ctx, ln, sup, opt) }()
	t.Cleanup(func() { h.end(t) })
	return h
}

// end stops Serve and waits for it; the second call finds it ended.
func (h *harness) end(t *testing.T) {
	t.Helper()
	h.stop()
	select {
	case err := <-h.done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
		h.done <- nil
	case <-time.After(limit):
		t.Fatal("Serve didn't return")
	}
}

func (h *harness) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: h.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	if err := sock.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return sock
}

type answered struct {
	doc    map[string]any
	pieces int
	last   *ipc.ControlReply
}

func (a answered) outcome() map[string]any { return a.doc["Outcome"].(map[string]any) }

// ask sends a request and returns the answer.
func (h *harness) ask(t *testing.T, command string, a map[string]string) answered {
	t.Helper()
	got, err := h.send(t, &ipc.ControlRequest{Version: ipc.Version, Command: command, Args: a})
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return got
}

func (h *harness) send(t *testing.T, req *ipc.ControlRequest) (answered, error) {
	t.Helper()
	conn := ipc.NewConn(h.dial(t), ipc.RoleControl, ipc.RoleSupervisor, nil)
	defer conn.Close()
	if err := conn.Send(req); err != nil {
		return answered{}, err
	}
	return read(conn)
}

func read(conn *ipc.Conn) (answered, error) {
	var got answered
	var data []byte
	for got.last == nil || got.last.More {
		env, err := conn.Receive()
		if err != nil {
			return got, err
		}
		got.last = env.Message.(*ipc.ControlReply)
		got.pieces++
		data = append(data, got.last.Data...)
	}
	return got, json.Unmarshal(data, &got.doc)
}

// mustEOF waits for the server to close the connection.
func mustEOF(t *testing.T, sock *net.UnixConn) {
	t.Helper()
	n, err := sock.Read(make([]byte, 16))
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, error %v; want a closed connection", n, err)
	}
	if !errors.Is(err, io.EOF) {
		t.Logf("closed with %v", err)
	}
}
