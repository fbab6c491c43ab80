package firsthour

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// patience bounds one block of commands on a busy machine. The longest one compiles.
const patience = 4 * time.Minute

// emptied makes the machine empty where the guide puts things: $ETC is a copy of /etc, $GO the
// directory of Go. It runs as the first process of namespaces of its own. The shell that
// it leaves reads the commands of the test.
const emptied = `
set -e
cd /
mount --make-rprivate / 2>/dev/null || { mount --bind / / && mount --make-rprivate /; }
mount -t proc proc /proc
mount --bind $GO /mnt
for dir in /usr/local /var/lib /run /home /srv; do mount -t tmpfs tmpfs $dir; done
if [ ! -x $GO/bin/go ]; then mkdir -p $GO; mount --bind /mnt $GO; fi
umount /mnt
mount --bind $ETC /etc
rm -rf /etc/pgagroal
ip link set lo up
home=$(getent passwd postgres | cut -d: -f6)
mkdir -p $home /home/root
chown postgres: $home
sed -i 's|^\(root:.*:\)/root:|\1/home/root:|' /etc/passwd
mkdir -p /usr/local/sbin
cp $TREE/test/firsthour/testdata/{systemctl,journalctl} /usr/local/sbin/
command -v sudo >/dev/null || cp $TREE/test/firsthour/testdata/sudo /usr/local/sbin/
set +e
`

// machine is a shell on a machine that looks as if pgagroal had never been there.
type machine struct {
	t     *testing.T
	shell *exec.Cmd
	stdin io.WriteCloser
	out   *output
	marks int
}

// output collects what the shell and its programs print.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newMachine is this machine without anything of pgagroal. Its shell is in a copy of this checkout, as root.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a machine of its own takes root")
	}
	m, dir := &machine{t: t, out: &output{}}, shared(t)
	etc, tree := filepath.Join(dir, "etc"), filepath.Join(dir, "pgagroal")
	must(t, copied("/etc", etc))
	copyCheckout(t, tree)
	if err := m.start(tree); errors.Is(err, syscall.EPERM) {
		t.Skip("namespaces aren't permitted here: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	out, code := m.run(strings.NewReplacer("$ETC", etc, "$GO", goEnv(t, "GOROOT"), "$TREE", tree).Replace(emptied) + "cd " + tree)
	if text := strings.ToLower(out); strings.Contains(text, "permission denied") || strings.Contains(text, "not permitted") {
		t.Skip("mounts aren't permitted here: ", out)
	}
	if code != 0 || out != "" {
		t.Fatalf("the machine can't be set up: exit code %d\n%s", code, out)
	}
	return m
}

// shared is a directory that every user of the machine may enter.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// start starts a shell in this directory, the first process of namespaces of its own.
func (m *machine) start(dir string) error {
	m.t.Helper()
	m.shell = exec.Command("bash")
	m.shell.Dir = dir
	m.shell.Env = environment(m.t)
	m.shell.Stdout, m.shell.Stderr = m.out, m.out
	m.shell.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
	}
	// A program that is left may hold the pipe of the output open.
	m.shell.WaitDelay = 5 * time.Second
	var err error
	m.stdin, err = m.shell.StdinPipe()
	must(m.t, err)
	if err := m.shell.Start(); err != nil {
		return err
	}
	m.t.Cleanup(m.end)
	return nil
}

// end kills the first process, and with it the kernel kills all others of the machine.
func (m *machine) end() {
	m.shell.Process.Kill()
	m.shell.Wait()
}

// run pastes commands into the shell, and returns what they print and the exit code of
// the last one.
func (m *machine) run(commands string) (printed string, code int) {
	m.t.Helper()
	m.marks++
	mark := fmt.Sprintf("--- %d ended with ", m.marks)
	before := len(m.out.String())
	if _, err := io.WriteString(m.stdin, commands+"\necho '"+mark+"'$?\n"); err != nil {
		m.t.Fatalf("the shell is gone: %v\n%s", err, m.out)
	}
	rest := ""
	pgtest.WaitUntil(m.t, patience, "the end of\n"+commands, func() bool {
		printed, rest, _ = strings.Cut(m.out.String()[before:], mark)
		return strings.HasSuffix(rest, "\n")
	}, func() string { return m.out.String()[before:] })
	if _, err := fmt.Sscan(rest, &code); err != nil {
		m.t.Fatal(err)
	}
	return printed, code
}

// environment is that of a login of root, with what go needs to find its caches.
func environment(t *testing.T) []string {
	t.Helper()
	env := []string{"HOME=/home/root", "LANG=C.UTF-8", "PATH=" + goEnv(t, "GOROOT") + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY"} {
		env = append(env, name+"="+goEnv(t, name))
	}
	return env
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	must(t, err)
	return strings.TrimSpace(string(value))
}

// copyCheckout copies what a release archive has.
func copyCheckout(t *testing.T, to string) {
	t.Helper()
	must(t, os.Mkdir(to, 0o755))
	entries, err := os.ReadDir("../..")
	must(t, err)
	for _, e := range entries {
		switch e.Name() {
		case ".git", "bin", "dist", "demo-data":
			continue
		}
		must(t, copied(filepath.Join("../..", e.Name()), to))
	}
}

// copied copies with owners and modes.
func copied(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
