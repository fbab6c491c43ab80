//go:build !cgo

package confine

// libraryCalls is empty, because a build without cgo doesn't use the C library.
var libraryCalls []uint32
