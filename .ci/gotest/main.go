// Command gotest runs go test and ends with a line that says how many tests
// passed and how many failed.
//
//	go run ./.ci/gotest [flags and packages of go test]
//
// It runs go test itself, since at the end of a pipe an exit code is easily lost.
// What can't be counted is a failure: a package that doesn't build or has no end,
// a test without a result, output that isn't JSON, and a run without any test.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = errOut
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(errOut, "gotest:", err)
		return 1
	}
	c := newCount(out)
	readErr := c.read(stdout)
	if readErr != nil {
		_, _ = io.Copy(io.Discard, stdout) // so that go test can end
	}
	err = cmd.Wait()
	c.finish()
	for _, e := range []error{readErr, err} {
		if e != nil {
			fmt.Fprintln(errOut, "gotest: go test:", e)
		}
	}
	bad := c.failed > 0 || c.passed == 0 || readErr != nil || err != nil
	if bad && c.failed == 0 {
		fmt.Fprintln(errOut, "gotest: this is a failure although no test failed: see above, or no test ran")
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", c.passed, c.failed)
	if bad {
		return 1
	}
	return 0
}
