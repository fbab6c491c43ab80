package statedir

import (
	"io"
	"os"
	"os/exec"
	"testing"
)

// holderVariable makes this binary a process that lives until its standard
// input ends.
const holderVariable = "SUPERVISOR_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holder starts a live process of this binary.
func holder(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holderVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() { in.Close(); _ = cmd.Wait() }
}
