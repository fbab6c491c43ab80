//go:build !cgo

package confine

// libraryCalls are those of the C library, which no release has.
var libraryCalls []uint32
