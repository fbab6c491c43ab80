package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// fullPipe returns a pipe that takes nothing more.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for size := 1 << 16; size > 0; {
		if _, err := syscall.Write(fds[1], bytes.Repeat([]byte("\n"), size)); errors.Is(err, syscall.EAGAIN) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// asksTLS returns the answer to a request for TLS, which is a worker's.
func asksTLS(t *testing.T, address string) byte {
	t.Helper()
	var nc net.Conn
	until(t, "it listens", func() (ok bool) {
		var err error
		nc, err = net.Dial("tcp", address)
		return err == nil
	})
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(nc, answer); err != nil {
		t.Fatalf("no answer of a worker: %v", err)
	}
	return answer[0]
}

// Whoever collects the log may be stuck; the pooler serves, ends, and has lost nothing
// that it had room for once the log is read again.
func TestLogThatNobodyReadsStopsNoProcess(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read=%v", read), func(t *testing.T) {
			port := fmt.Sprint(pgtest.Port(t))
			dir := directory(t, strings.Replace(good, "27999", port+"\nlog_level = debug5", 1))
			r, w := fullPipe(t)
			cmd := exec.Command("/proc/self/exe", "-D", dir)
			cmd.Env = append(os.Environ(), mainVariable+"=1")
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged}
			}
			cmd.Stderr = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer func() { _ = cmd.Process.Kill() }()
			for range 3 {
				if got := asksTLS(t, "127.0.0.1:"+port); got != 'N' {
					t.Errorf("the answer is %q", got)
				}
			}
			text := make(chan string, 1)
			if read {
				go func() {
					b, _ := io.ReadAll(r)
					text <- string(b)
				}()
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("the end: %v", err)
				}
			case <-time.After(limit):
				t.Fatal("it doesn't end")
			}
			if !read {
				return
			}
			got := <-text
			for _, line := range []string{" listening network=tcp", " worker is ready ", " shutdown requested by signal"} {
				if !strings.Contains(got, line) {
					t.Errorf("%q is missing in %s", line, strings.TrimSpace(got))
				}
			}
			_, end, _ := strings.Cut(got, " shutdown requested by signal")
			for line := range strings.Lines(end) {
				warns := strings.Contains(line, " WARN ") && !strings.Contains(line, "the machine was too busy")
				if warns || strings.Contains(line, " ERROR ") {
					t.Errorf("an ordinary end has something to complain about: %s", line)
				}
			}
		})
	}
}
