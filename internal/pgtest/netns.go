package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace without a name. After Close it ends with its last
// process, so a test that was killed leaves none behind.
type Netns struct{ file *os.File }

// NewNetns makes an empty network namespace, which only root can do. The caller closes
// it.
func NewNetns() (*Netns, error) {
	n := &Netns{}
	err := onThread(func() (err error) {
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			return err
		}
		n.file, err = os.Open(threadNetns())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return n, nil
}

// Close releases the namespace.
func (n *Netns) Close() error { return n.file.Close() }

// Do calls f in the namespace: sockets that f makes and processes that it starts stay
// there. What f does on other goroutines happens outside.
func (n *Netns) Do(f func() error) error {
	return onThread(func() error {
		if err := setns(n.file); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Run runs a program in the namespace with text as its input. Further namespaces
// are the program's files /proc/self/fd/3, 4 and so on, where ip takes a name.
func (n *Netns) Run(text string, others []*Netns, name string, args ...string) error {
	path, err := adminTool(name)
	if err != nil {
		return err
	}
	return n.Do(func() error {
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(text)
		for _, o := range others {
			cmd.ExtraFiles = append(cmd.ExtraFiles, o.file)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s\n%s", name, args, err, out, text)
		}
		return nil
	})
}

// adminTool finds a program for administrators, whose directory may not be in PATH.
func adminTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// NoNetns returns why this process can't make networks of its own, nil if it can.
func NoNetns() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces of our own take root")
	}
	for _, name := range []string{"ip", "nft"} {
		if _, err := adminTool(name); err != nil {
			return fmt.Errorf("networks take iproute2 and nftables: %w", err)
		}
	}
	return nil
}

// onThread calls f on a thread that may change its namespaces and that goes back
// to its own before it runs anything else. If it can't go back, it ends.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // a goroutine that ends locked takes its thread along
		home, err := os.Open(threadNetns())
		if err != nil {
			result <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }()
		err = f()
		if setns(home) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

func threadNetns() string { return fmt.Sprintf("/proc/self/task/%d/ns/net", syscall.Gettid()) }

// setns moves the calling thread into the network namespace of a file.
func setns(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Setns(int(fd), unix.CLONE_NEWNET) }); err != nil {
		return err
	}
	return failed
}
