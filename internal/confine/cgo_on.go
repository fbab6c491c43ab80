//go:build cgo

package confine

import "golang.org/x/sys/unix"

// libraryCalls are the additional calls of the C library and the race detector, for
// builds of developers. Releases are built without cgo.
var libraryCalls = []uint32{unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_MREMAP}
