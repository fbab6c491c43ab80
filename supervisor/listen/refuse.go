package listen

import (
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Refuse tells a client as far as it listens that there are too many, and closes it.
func Refuse(c Client) {
	// What it has sent is read first: a close with unread bytes would take the answer back.
	_, _ = unix.Read(c.FD, make([]byte, 4096))
	answer := pgwire.AppendError(nil, "FATAL", "53300", "too many clients are waiting for a worker")
	_, _ = unix.Write(c.FD, answer)
	unix.Close(c.FD)
}

// Gone says whether a client that nobody has answered yet has hung up.
func Gone(c Client) bool {
	p := []unix.PollFd{{Fd: int32(c.FD), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
