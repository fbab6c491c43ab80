package ipc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

const headerSize = 2

// Envelope is a received message with its descriptors. The descriptors are close-on-exec and belong
// to the receiver, who closes them. FDs is nil, although the catalogue requires some, if this
// process had too few free descriptors: the kernel has then dropped them, and the sender is not to
// blame.
type Envelope struct {
	Message Message
	FDs     []int
}

// CloseFDs closes the descriptors that came with the message.
func (e Envelope) CloseFDs() { closeAll(e.FDs) }

// Conn is one end of a link. Send may be called from several goroutines,
// Receive from one.
type Conn struct {
	sock       *net.UnixConn
	raw        syscall.RawConn // of sock
	self, peer Role
	phase      atomic.Uint32
	log        *slog.Logger

	sendMu  sync.Mutex
	sendBuf bytes.Buffer
	enc     *msgpack.Encoder

	recvBuf []byte
	oob     []byte
	body    bytes.Reader
	dec     *msgpack.Decoder
}

// NewConn makes a Conn in PhaseSetup from a connected SOCK_SEQPACKET socket, which it takes over.
// log gets one line per message at level -8 (trace).
func NewConn(sock *net.UnixConn, self, peer Role, log *slog.Logger) *Conn {
	raw, _ := sock.SyscallConn() // fails for nil only
	c := &Conn{
		sock: sock, raw: raw, self: self, peer: peer, log: log,
		recvBuf: make([]byte, MaxPacket+1),
		oob:     make([]byte, unix.CmsgSpace(4*(MaxFDs+1))),
	}
	c.phase.Store(uint32(PhaseSetup))
	c.enc = msgpack.NewEncoder(&c.sendBuf)
	c.enc.SetOmitEmpty(true)
	c.enc.UseCompactInts(true)
	c.dec = msgpack.NewDecoder(&c.body)
	return c
}

// FromFD makes a Conn from a descriptor, which it takes over.
func FromFD(fd int, self, peer Role, log *slog.Logger) (*Conn, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close()
	return fromFile(f, self, peer, log)
}

// fromFile makes a Conn from a copy of a file's descriptor.
func fromFile(f *os.File, self, peer Role, log *slog.Logger) (*Conn, error) {
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		nc.Close()
		return nil, errors.New("open link: not a Unix socket")
	}
	return NewConn(uc, self, peer, log), nil
}

// Pair makes a connected pair of sockets: ours as a Conn, theirs as a file for a child. The caller
// closes theirs after the start of the child.
func Pair(self, peer Role, log *slog.Logger) (ours *Conn, theirs *os.File, err error) {
	ours, fd, err := PairFD(self, peer, log)
	if err != nil {
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(fd), "link"), nil
}

// PairFD is Pair for a process that runs already: theirs is a descriptor for a message.
func PairFD(self, peer Role, log *slog.Logger) (ours *Conn, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make link: %w", err)
	}
	ours, err = FromFD(fds[0], self, peer, log)
	if err != nil {
		unix.Close(fds[1])
		return nil, -1, err
	}
	return ours, fds[1], nil
}

// Unread returns the messages that a dead child hasn't read, oldest first. For this the child's end
// of the Pair, theirs, must have been kept open; it stays the caller's, and so do the descriptors
// of the messages. While theirs is open, the death of the child doesn't end the link.
func (c *Conn) Unread(theirs *os.File) ([]Envelope, error) {
	conn, err := fromFile(theirs, c.peer, c.self, c.log)
	if err != nil {
		return nil, err
	}
	defer conn.sock.Close()
	conn.SetPhase(phaseAny)
	var all []Envelope
	for ended := false; ; {
		env, err := conn.TryReceive()
		switch {
		case err == nil:
			all = append(all, env)
		case Violation(err): // but a packet was read
		case errors.Is(err, io.EOF) && !ended:
			ended = true // reading may report that our end is closed before it returns what that end has sent
		default:
			return all, nil
		}
	}
}

// SetPhase moves the link to another phase.
func (c *Conn) SetPhase(p Phase) { c.phase.Store(uint32(p)) }

// Peer returns the role of the other end.
func (c *Conn) Peer() Role { return c.peer }

// Close ends the link, even if another descriptor of this end is open. What was sent before can
// still be read.
func (c *Conn) Close() error {
	_ = c.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return c.sock.Close()
}

// SetDeadline sets a deadline for every Send and Receive from now on; the zero time removes it.
func (c *Conn) SetDeadline(t time.Time) error { return c.sock.SetDeadline(t) }

// Interrupt makes Receive return os.ErrDeadlineExceeded from now on, without taking a message off the
// link, or lets it receive again.
func (c *Conn) Interrupt(on bool) error {
	until := time.Time{}
	if on {
		until = time.Unix(1, 0)
	}
	return c.sock.SetReadDeadline(until)
}

// PeerPID returns the process id of the other end, as the kernel has recorded it.
func (c *Conn) PeerPID() (int, error) {
	cred, err := c.PeerCred()
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// PeerCred returns process, user and group id of the other end (SO_PEERCRED).
func (c *Conn) PeerCred() (*unix.Ucred, error) {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	if cerr != nil {
		return nil, fmt.Errorf("peer credentials: %w", cerr)
	}
	return cred, nil
}

// Peer is a reference to the process at the other end of a link. It can tell whether that process
// has ended, so that a reused id doesn't go unnoticed.
type Peer struct{ fd int }

// PeerProcess returns the id of the process that made the connection, 0 if it is in another PID
// namespace, and a reference to it that is valid until Close.
func (c *Conn) PeerProcess() (pid int, p Peer, err error) {
	if pid, err = c.PeerPID(); err != nil {
		return 0, Peer{-1}, err
	}
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return 0, Peer{-1}, fmt.Errorf("peer process: %w", err)
	}
	p.fd = -1
	var gerr error
	if err := raw.Control(func(fd uintptr) {
		p.fd, gerr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	}); err != nil {
		return 0, Peer{-1}, fmt.Errorf("peer process: %w", err)
	}
	switch {
	case gerr == nil:
		return pid, p, nil
	case errors.Is(gerr, unix.ENOPROTOOPT) || pid == 0:
		return pid, Peer{-1}, nil // Linux before 6.5, or a process without an id in this namespace
	}
	return 0, Peer{-1}, fmt.Errorf("peer process: %w", gerr)
}

// Check returns an error if the process has ended. On Linux before 6.5 that is unknown, and Check
// returns nil.
func (p Peer) Check() error {
	if p.fd < 0 {
		return nil
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	if err == nil && n > 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return fmt.Errorf("peer process: %w", err)
	}
	return nil
}

// Close releases the reference.
func (p Peer) Close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// Send writes one message. The descriptors stay the caller's. It blocks while the socket's buffer
// is full; a caller that must not block uses an Outbox.
func (c *Conn) Send(m Message, fds ...int) error {
	return c.send(m, fds, func(packet, oob []byte) error {
		_, _, err := c.sock.WriteMsgUnix(packet, oob, nil)
		return err
	})
}

// trySend is Send without blocking: it returns unix.EAGAIN if the socket's buffer is full.
func (c *Conn) trySend(m Message, fds []int) error {
	return c.send(m, fds, func(packet, oob []byte) error {
		var sent error
		err := c.raw.Write(func(fd uintptr) bool {
			sent = sendNow(fd, packet, oob)
			return true
		})
		return cmp.Or(err, sent)
	})
}

func (c *Conn) send(m Message, fds []int, write func(packet, oob []byte) error) error {
	row := catalogue[m.Number()]
	if err := c.checkSend(row, m, len(fds)); err != nil {
		return err
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.sendBuf.Reset()
	c.sendBuf.Write(binary.BigEndian.AppendUint16(nil, uint16(row.Number)))
	if err := c.enc.Encode(m); err != nil {
		return fmt.Errorf("send %s: %w", row.Name, err)
	}
	if c.sendBuf.Len() > MaxPacket {
		return fmt.Errorf("send %s: %d bytes are more than a packet holds", row.Name, c.sendBuf.Len())
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := write(c.sendBuf.Bytes(), oob); err != nil {
		return fmt.Errorf("send %s: %w", row.Name, err)
	}
	c.trace("sent", row, c.sendBuf.Len(), len(fds))
	return nil
}

func (c *Conn) checkSend(row *Row, m Message, fds int) error {
	switch {
	case row == nil:
		panic(fmt.Sprintf("ipc: %T has no catalogue row", m))
	case row.From != c.self || row.To != c.peer:
		panic(fmt.Sprintf("ipc: %s may not send %s to %s", c.self, row.Name, c.peer))
	case !row.carries(fds):
		panic(fmt.Sprintf("ipc: %s carries %d descriptors, not %d", row.Name, row.FDs, fds))
	case row.Phase&Phase(c.phase.Load()) == 0:
		return fmt.Errorf("send %s: the link is in phase %s", row.Name, Phase(c.phase.Load()))
	}
	return nil
}

// Receive reads one message. It returns io.EOF when the other end is gone and
// a *ViolationError for a packet that the catalogue doesn't allow; the
// descriptors of such a packet are closed.
func (c *Conn) Receive() (Envelope, error) {
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(c.recvBuf, c.oob)
	return c.received(n, oobn, flags, err)
}

// AwaitEnd waits until the other end is gone, and reports whether it is. False means that StopAwaiting
// or a deadline has ended the wait, or that a further message has come, which stays unread. Nothing else
// may receive meanwhile.
func (c *Conn) AwaitEnd() bool {
	gone := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, rerr := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if rerr == unix.EAGAIN || rerr == unix.EINTR {
			return false
		}
		gone = n <= 0
		return true
	})
	return gone && err == nil
}

// MayAwait lets AwaitEnd wait without a time limit, and StopAwaiting ends its wait.
func (c *Conn) MayAwait() error { return c.sock.SetReadDeadline(time.Time{}) }

// StopAwaiting ends an AwaitEnd. Until the next SetDeadline nothing can be received.
func (c *Conn) StopAwaiting() error { return c.sock.SetReadDeadline(time.Unix(1, 0)) }

// FD returns the descriptor, for callers that wait for it before TryReceive. The Conn keeps it.
func (c *Conn) FD() (fd int, err error) {
	err = c.raw.Control(func(d uintptr) { fd = int(d) })
	return fd, err
}

// TryReceive is Receive without blocking: it returns unix.EAGAIN if no message is there.
func (c *Conn) TryReceive() (Envelope, error) {
	var n, oobn, flags int
	var err error
	if rerr := c.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, err = receiveNow(fd, c.recvBuf, c.oob)
		return true
	}); rerr != nil {
		err = rerr
	}
	return c.received(n, oobn, flags, err)
}

func (c *Conn) received(n, oobn, flags int, err error) (Envelope, error) {
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			return Envelope{}, io.EOF
		}
		return Envelope{}, err
	}
	fds, oobErr := parseRights(c.oob[:oobn])
	if n == 0 && oobn == 0 {
		return Envelope{}, io.EOF
	}
	env, err := c.open(c.recvBuf[:n], fds, flags, oobErr)
	if err != nil {
		closeAll(fds)
		return Envelope{}, err
	}
	return env, nil
}

func (c *Conn) open(packet []byte, fds []int, flags int, oobErr error) (Envelope, error) {
	var num Number
	if len(packet) >= headerSize {
		num = Number(binary.BigEndian.Uint16(packet))
	}
	bad := func(what string) (Envelope, error) {
		return Envelope{}, &ViolationError{Number: num, Peer: c.peer, What: what}
	}
	row := catalogue[num]
	lost := row != nil && row.FDs > 0 && len(fds) < row.FDs+row.More && flags&unix.MSG_CTRUNC != 0
	switch {
	case len(packet) < headerSize:
		return bad("packet without a header")
	case flags&unix.MSG_TRUNC != 0 || flags&unix.MSG_CTRUNC != 0 && !lost || len(packet) > MaxPacket:
		return bad("packet larger than allowed")
	case oobErr != nil:
		return bad(oobErr.Error())
	case row == nil:
		return bad("no such message")
	case row.From != c.peer || row.To != c.self:
		return bad(fmt.Sprintf("not a message from %s to %s", c.peer, c.self))
	case row.Phase&Phase(c.phase.Load()) == 0:
		return bad("not allowed in phase " + Phase(c.phase.Load()).String())
	case !row.carries(len(fds)) && !lost:
		return bad(fmt.Sprintf("%d descriptors instead of %d", len(fds), row.FDs))
	}
	m := row.make()
	if err := c.decode(packet[headerSize:], m); err != nil {
		return bad("can't be decoded: " + err.Error())
	}
	if lost { // a part of them is of no use
		closeAll(fds)
		fds = nil
	}
	c.trace("received", row, len(packet), len(fds))
	return Envelope{Message: m, FDs: fds}, nil
}

// decode decodes a message, and turns the decoder's panics on hostile input into errors.
func (c *Conn) decode(b []byte, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder: %v", p)
		}
	}()
	if err := wellFormed(b); err != nil {
		return err
	}
	c.body.Reset(b)
	c.dec.Reset(&c.body)
	return c.dec.Decode(m)
}

// LevelTrace is the level of the line that Conn writes for each message.
const LevelTrace = slog.Level(-8)

func (c *Conn) trace(what string, row *Row, size, fds int) {
	if c.log == nil || !c.log.Enabled(context.Background(), LevelTrace) {
		return
	}
	c.log.Log(context.Background(), LevelTrace, "message "+what,
		"message", row.Name, "peer", c.peer.String(), "bytes", size, "fds", fds)
}
