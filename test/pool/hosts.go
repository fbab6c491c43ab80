package pool

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Hosts lets pgagroal see localhost and these lines as /etc/hosts, which takes root. Once it runs, another call changes
// the lines.
func (p *Pool) Hosts(lines string) {
	p.T.Helper()
	needMounts(p.T)
	c := ServingUser(p.T)
	WriteFile(p.T, p.Path("hosts"), "127.0.0.1 localhost\n"+lines, 0o644)
	p.Adjust = func(cmd *exec.Cmd) {
		mounted(cmd, p.Path("hosts"), "/etc/hosts", fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups", c.Uid, c.Gid))
		cmd.Env = append(cmd.Env, "GODEBUG=netdns=go") // as the released programs, which have no other
	}
}

// SeesAccount has a command started as root see one more line of /etc/passwd.
func (p *Pool) SeesAccount(cmd *exec.Cmd, line string) {
	p.T.Helper()
	needMounts(p.T)
	accounts, err := os.ReadFile("/etc/passwd")
	Must(p.T, err)
	WriteFile(p.T, p.Path("passwd"), string(accounts)+line+"\n", 0o644)
	mounted(cmd, p.Path("passwd"), "/etc/passwd", "")
}

// needMounts skips a test where a process can't have mounts of its own.
func needMounts(t testing.TB) {
	t.Helper()
	RootOnly(t)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(mounts), " / / ") {
		t.Skip("takes a mount namespace of its own, and below a changed root directory there is none")
	}
}

// mounted has a command see a file in place of another. It is started through a command before it, if that isn't empty.
func mounted(cmd *exec.Cmd, file, over, before string) {
	script := fmt.Sprintf("mount --bind %s %s && exec %s \"$@\"", file, over, before)
	cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
}

// Journal lets pgagroal see a directory as that of the journal's socket, which takes root.
func (p *Pool) Journal(dir string) {
	p.T.Helper()
	needMounts(p.T)
	c := ServingUser(p.T)
	p.Adjust = func(cmd *exec.Cmd) {
		script := fmt.Sprintf("mount -t tmpfs none /run && mkdir /run/systemd && ln -s %s /run/systemd/journal && exec setpriv --reuid=%d --regid=%d --clear-groups \"$@\"", dir, c.Uid, c.Gid)
		cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
}
