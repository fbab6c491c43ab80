package pgtest

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guardScript waits for a line or for the end of its standard input. The end without a
// line means that the owner has died. Then it shuts down every postmaster below $1 at
// once (which also ends its children and removes its shared memory), and continues
// stopped ones so that they see that. It kills what is still working there after that,
// such as the orphans of a killed postmaster, and removes the directory if $2 says so.
// A process id counts only while that process works in that data directory.
const guardScript = `
read -r _ && exit 0
alive() { [ "$(readlink "/proc/$1/cwd" 2>/dev/null)" = "$2" ]; }
for f in "$1"/*/data/postmaster.pid; do
    data=${f%/*}
    read -r pid <"$f" 2>/dev/null && alive "$pid" "$data" || continue
    children=
    read -r children 2>/dev/null <"/proc/$pid/task/$pid/children"
    kill -QUIT "$pid"
    kill -CONT "$pid" $children 2>/dev/null
    n=0
    while alive "$pid" "$data" && [ $n -lt 80 ]; do sleep 0.1; n=$((n + 1)); done
done
for link in $(find /proc -maxdepth 2 -name cwd -lname "$1/*" 2>/dev/null); do
    pid=${link#/proc/}
    kill -KILL "${pid%/cwd}"
done
[ "$2" = remove ] && rm -rf -- "$1"
`

// guard ends what its owner can no longer end. It is a process rather than a goroutine,
// because a goroutine dies with the owner.
type guard struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// startGuard watches over dir; remove also deletes it.
func startGuard(dir string, remove bool) (*guard, error) {
	what := "keep"
	if remove {
		what = "remove"
	}
	// Not bound to a context: the guard must outlive everything but release.
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", guardScript, "pgtest-guard", dir, what)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return &guard{cmd: cmd, stdin: stdin}, nil
}

// release ends the guard and leaves everything as it is.
func (g *guard) release() error {
	_, err := io.WriteString(g.stdin, "released\n")
	if err != nil {
		return fmt.Errorf("release guard: %w", err)
	}
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("end of guard: %w", err)
	}
	return nil
}
