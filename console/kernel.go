package console

import (
	"os"
	"strings"
)

// kernelRelease returns the kernel's release as major, minor and patch. It reads /proc, so
// call it before the process is confined.
func kernelRelease() (v [3]string) {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return [3]string{"0", "0", "0"}
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	parts := strings.SplitN(number, ".", 3)
	for i := range v {
		v[i] = "0"
		if i < len(parts) {
			v[i] = parts[i]
		}
	}
	return v
}
