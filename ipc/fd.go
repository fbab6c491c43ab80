package ipc

import (
	"errors"

	"golang.org/x/sys/unix"
)

// parseRights returns the descriptors of the ancillary data, close-on-exec. On
// an error it returns those it found, so that the caller can close them. (Both
// ways of receiving ask for MSG_CMSG_CLOEXEC, so there is no moment without it.)
func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, errors.New("ancillary data can't be parsed")
	}
	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return fds, errors.New("ancillary data is not descriptors")
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
