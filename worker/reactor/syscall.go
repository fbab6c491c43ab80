package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeEvent signals an eventfd.
func wakeEvent(fd int) {
	one := [8]byte{1}
	_, _ = unix.Write(fd, one[:])
}

// drainEvent resets an eventfd. Its result is for Poll.
func drainEvent(fd int) bool {
	var b [8]byte
	_, _ = read(fd, b[:])
	return true
}

// read, receive and write are raw calls, which Go's scheduler doesn't see. They never wait,
// so they can't block it. read is for descriptors that are non-blocking.
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// receive reads from a socket and never waits, even if the socket is blocking. It
// costs less than read, which the kernel passes through its file layer.
func receive(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// write writes to a socket and never waits. It returns how many bytes the kernel accepted; a
// full socket is not an error.
func write(fd int, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, e
		}
	}
}

// errno turns a raw result into an error, nil for 0.
func errno(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// disconnect cuts a connection at once. A TCP peer gets a reset, and the kernel drops the
// bytes in its queue and the operations in progress.
func disconnect(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	sa := [unix.SizeofSockaddrInet6]byte{} // family AF_UNSPEC
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
	if e != 0 { // a Unix socket can't be disconnected like this
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
}
