package pool

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Hosts lets pgagroal see localhost and these lines as /etc/hosts, which takes root. Once it runs, another call changes
// the lines.
func (p *Pool) Hosts(lines string) {
	p.T.Helper()
	RootOnly(p.T)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(mounts), " / / ") {
		p.T.Skip("takes a mount namespace of its own, and below a changed root directory there is none")
	}
	c := ServingUser(p.T)
	WriteFile(p.T, p.Path("hosts"), "127.0.0.1 localhost\n"+lines, 0o644)
	p.Adjust = func(cmd *exec.Cmd) {
		script := fmt.Sprintf("mount --bind %s/hosts /etc/hosts && exec setpriv --reuid=%d --regid=%d --clear-groups \"$@\"", cmd.Dir, c.Uid, c.Gid)
		cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "GODEBUG=netdns=go") // as the released programs, which have no other
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
}
