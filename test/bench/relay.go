package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// relayCommand makes this program the bare relay: listen, forward, event loop.
const relayCommand = "relay"

// runRelay forwards bytes between clients and one server on one of our event loops
// until it is stopped. It parses nothing and shares nothing.
func runRelay(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: relay LISTEN FORWARD EVENT-LOOP")
	}
	loop, err := reactor.New(args[2])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-stop
		l.Close()
		loop.Stop()
	}()
	go func() { // ends with the listener
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if err := join(loop, client, args[1]); err != nil {
				fmt.Fprintln(os.Stderr, "relay:", err)
			}
		}
	}()
	loop.Run()
	return nil
}

// join connects a client to the server, and adds both connections to the loop.
func join(loop *reactor.Loop, client net.Conn, address string) error {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer server.Close()
	a, err := descriptor(client)
	if err != nil {
		return err
	}
	b, err := descriptor(server)
	if err != nil {
		syscall.Close(a)
		return err
	}
	loop.Post(func() {
		left, right := &relayEnd{}, &relayEnd{}
		var errs [2]error
		left.conn, errs[0] = loop.Add(a, left)
		right.conn, errs[1] = loop.Add(b, right)
		left.other, right.other = right, left
		if errs[0] != nil || errs[1] != nil {
			left.Ended(nil)
			return
		}
		left.conn.Resume()
		right.conn.Resume()
	})
	return nil
}

// relayEnd is one of the two connections of a client in the relay.
type relayEnd struct {
	conn  *reactor.Conn
	other *relayEnd
}

func (e *relayEnd) Received(b []byte) {
	e.other.conn.Send(b)
	if e.other.conn.Full() {
		e.conn.Pause()
	}
}

func (e *relayEnd) Flushed() { e.other.conn.Resume() }

func (e *relayEnd) Ended(error) {
	for _, end := range []*relayEnd{e, e.other} {
		if end.conn != nil {
			end.conn.Close()
		}
	}
}

// descriptor returns a duplicate of a connection's descriptor that Go's poller doesn't
// watch. It belongs to the caller.
func descriptor(conn net.Conn) (int, error) {
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return -1, fmt.Errorf("take a connection over: %w", err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return -1, fmt.Errorf("take a connection over: %w", err)
	}
	syscall.CloseOnExec(fd)
	return fd, nil
}
