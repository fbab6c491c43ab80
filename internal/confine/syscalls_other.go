//go:build !amd64

package confine

// auditArch is never compared: there is no list.
const auditArch = 0

// allowed returns nil: the list has been tested on amd64 only.
func allowed(Policy) []call { return nil }
