package ipc

import (
	"errors"

	"golang.org/x/sys/unix"
)

// parseRights returns the descriptors of the ancillary data, close-on-exec. With an error it
// returns those that it has found, so that the caller can close them. (Both ways of receiving use
// MSG_CMSG_CLOEXEC, so that the descriptors are close-on-exec from the beginning.)
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
