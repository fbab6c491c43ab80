package ipc

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here never wait, so Go's scheduler need not know of them. Telling it of a system call
// wakes its monitor thread whenever the process was idle, which took a fifth of the time of a
// supervisor that hands on a few hundred clients a second.

// header is the header of a one-packet message. Both slices must stay valid while it is used.
func header(iov *unix.Iovec, packet, oob []byte) unix.Msghdr {
	var h unix.Msghdr
	iov.Base = &packet[0]
	iov.SetLen(len(packet))
	h.Iov = iov
	h.SetIovlen(1)
	if len(oob) > 0 {
		h.Control = &oob[0]
		h.SetControllen(len(oob))
	}
	return h
}

func sendNow(fd uintptr, packet, oob []byte) error {
	var iov unix.Iovec
	h := header(&iov, packet, oob)
	if _, _, e := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); e != 0 {
		return e
	}
	return nil
}

func receiveNow(fd uintptr, packet, oob []byte) (n, oobn, flags int, err error) {
	var iov unix.Iovec
	h := header(&iov, packet, oob)
	for {
		r, _, e := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch e {
		case 0:
			return int(r), int(h.Controllen), int(h.Flags), nil
		case unix.EINTR:
		default:
			return 0, 0, 0, e
		}
	}
}

// closeNow closes descriptors that the kernel also holds, in a packet.
func closeNow(fds []int) {
	for _, fd := range fds {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}
