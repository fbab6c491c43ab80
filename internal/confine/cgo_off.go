//go:build !cgo

package confine

// libraryCalls are the calls of the C library, which releases don't use.
var libraryCalls []uint32
