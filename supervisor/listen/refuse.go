package listen

import (
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Refuse tells a client why it is refused, and closes it. It doesn't wait for the client.
func Refuse(c Client, why *pgwire.Refused) {
	// Read what it has sent: closing a socket with unread bytes would discard the answer.
	_, _, _ = unix.Recvfrom(c.FD, make([]byte, 4096), unix.MSG_DONTWAIT)
	_ = unix.Sendto(c.FD, why.Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	unix.Close(c.FD)
}

// Gone reports whether a client that has had no answer yet has hung up.
func Gone(c Client) bool {
	p := []unix.PollFd{{Fd: int32(c.FD), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
