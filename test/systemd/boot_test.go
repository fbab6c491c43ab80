//go:build systemd

package systemd

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

const (
	// patience bounds one command inside. The longest one unpacks a package.
	patience = 2 * time.Minute
	// soon bounds what systemd or pgagroal do by themselves, among it a watchdog of 30 s.
	soon = 90 * time.Second
)

// base is what the machine is made of.
var base = flag.String("root", "/", "root of the system that is booted; .ci/root makes others than this machine's")

// boot mounts an overlay over a root in a mount namespace of its own, which takes it away with the last process, and boots
// it: $1 is a directory for that, $2 the root, the others are files for /root. nspawn forbids Landlock by itself. It
// has the first process hand down capabilities, as that of no real machine does; setpriv takes them away.
const boot = `
set -e
dir=$1 base=$2
shift 2
mount -t tmpfs -o size=4g machine "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o lowerdir="$base",upperdir="$dir/upper",workdir="$dir/work" machine "$dir/root"
: >"$dir/root/etc/machine-id"
rm -f "$dir/root/usr/sbin/policy-rc.d"
cp "$@" "$dir/root/root/"
exec systemd-nspawn -q -D "$dir/root" -M pgagroal-test --register=no --keep-unit --private-network --console=pipe \
    --kill-signal=SIGRTMIN+3 --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    /usr/bin/setpriv --inh-caps=-all /usr/lib/systemd/systemd systemd.show_status=no systemd.unit=basic.target
`

// machine is a booted system.
type machine struct {
	nspawn *exec.Cmd
	init   int // process id of its systemd, seen from here
	output string
}

// newMachine boots with these files in /root.
func newMachine(t *testing.T, files ...string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("booting takes root")
	}
	dir := t.TempDir()
	m := &machine{output: filepath.Join(dir, "boot.log")}
	log, err := os.Create(m.output)
	must(t, err)
	defer log.Close()
	root := filepath.Join(dir, "machine")
	must(t, os.Mkdir(root, 0o755))
	m.nspawn = exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "bash", "-c", boot, "boot", root, *base}, files...)...)
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1") // systemd 256 and later boot with nothing else
	m.nspawn.Stdout, m.nspawn.Stderr = log, log                               // a file, because nspawn hangs at a pipe that nobody reads
	m.nspawn.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(t, m.nspawn.Start())
	t.Cleanup(func() { m.end(t) })
	pgtest.Eventually(t, soon, "a booted machine", m.running)
	m.mustBeBare(t)
	return m
}

// running finds the machine's systemd, and asks it whether all has started.
func (m *machine) running() error {
	said, _ := os.ReadFile(m.output)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.nspawn.Process.Pid))
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.nspawn.Process.Pid))
	if err != nil || string(comm) != "systemd-nspawn\n" {
		return fmt.Errorf("still mounting: %s", said)
	}
	if _, err := fmt.Sscan(string(children), &m.init); err != nil {
		return fmt.Errorf("nothing is booted: %s", said)
	}
	if out, err := m.try("systemctl is-system-running"); strings.TrimSpace(out) != "running" {
		return fmt.Errorf("%v: %s%s", err, out, said)
	}
	return nil
}

// mustBeBare fails if this machine has a pgagroal of its own: then the scenes would show that one.
func (m *machine) mustBeBare(t *testing.T) {
	t.Helper()
	found := m.must(t, `find /etc /usr /var/lib /run /lib/systemd -xdev -iname '*pgagroal*'; getent passwd pgagroal || true`)
	if found != "" {
		t.Fatalf("this machine has a pgagroal; remove it for this test:\n%s", found)
	}
}

func (m *machine) end(t *testing.T) {
	m.nspawn.Process.Signal(syscall.SIGTERM) // a shutdown
	ended := make(chan error, 1)
	go func() { ended <- m.nspawn.Wait() }()
	select {
	case <-ended:
	case <-time.After(soon):
		t.Error("the machine doesn't shut down")
		m.nspawn.Process.Kill()
		<-ended
	}
}

// try runs commands of a shell inside, and returns what they print.
func (m *machine) try(commands string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := os.CreateTemp("", "pgagroal-machine") // no pipe: a daemon that they leave would keep it open
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	inside := []string{
		"-t", fmt.Sprint(m.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i",
		"PATH=" + serverPrograms() + ":/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOME=/root",
		"DEBIAN_FRONTEND=noninteractive", "PGCONNECT_TIMEOUT=30", "PGPASSWORD=" + appPassword, "bash", "-c", "cd /\n" + commands,
	}
	cmd := exec.CommandContext(ctx, "nsenter", inside...)
	cmd.Stdout, cmd.Stderr = out, out
	err = errors.Join(cmd.Run(), context.Cause(ctx))
	text, readErr := os.ReadFile(out.Name())
	return string(text), errors.Join(err, readErr)
}

// serverPrograms is the directory of PostgreSQL's programs inside.
func serverPrograms() string {
	if found, _ := filepath.Glob(filepath.Join(*base, "usr/lib/postgresql/*/bin")); *base != "/" && len(found) > 0 {
		return strings.TrimPrefix(found[0], strings.TrimSuffix(*base, "/"))
	}
	return filepath.Dir(pgtest.Binary("initdb"))
}

// must is try for commands that have to succeed.
func (m *machine) must(t *testing.T, commands string) string {
	t.Helper()
	out, err := m.try("set -e\n" + commands)
	if err != nil {
		t.Fatalf("%v:\n%s\nprints\n%s%s", err, commands, out, m.journal())
	}
	return out
}

// want runs commands that have to succeed and to print these texts.
func (m *machine) want(t *testing.T, commands string, texts ...string) string {
	t.Helper()
	out := m.must(t, commands)
	if l := lacking(out, texts); l != "" {
		t.Fatalf("%s\nprints no %q:\n%s%s", commands, l, out, m.journal())
	}
	return out
}

// until repeats commands until they succeed and print these texts. It looks less often than pgtest.WaitUntil does,
// because every look starts processes.
func (m *machine) until(t *testing.T, commands string, texts ...string) string {
	t.Helper()
	looks := time.NewTicker(250 * time.Millisecond)
	defer looks.Stop()
	for end := time.Now().Add(soon); ; <-looks.C {
		out, err := m.try(commands)
		l := lacking(out, texts)
		if err == nil && l == "" {
			return out
		}
		if time.Now().After(end) {
			t.Fatalf("after %v %s\nends with %v and prints no %q:\n%s%s", soon, commands, err, l, out, m.journal())
		}
	}
}

// lacking returns the first of the texts that isn't in out.
func lacking(out string, texts []string) string {
	if i := slices.IndexFunc(texts, func(s string) bool { return !strings.Contains(out, s) }); i >= 0 {
		return texts[i]
	}
	return ""
}

// journal is the end of what pgagroal has said, for failures.
func (m *machine) journal() string {
	out, _ := m.try("journalctl --no-pager -o cat -n 40 -u 'pgagroal*'")
	return "\njournal:\n" + out
}

// write makes a file inside.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	inside := filepath.Join("/proc", fmt.Sprint(m.init), "root", path)
	must(t, os.MkdirAll(filepath.Dir(inside), 0o755))
	must(t, os.WriteFile(inside, []byte(text), 0o644))
}

// pid returns the main process of a unit, seen from inside.
func (m *machine) pid(t *testing.T, unit string) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, "systemctl show -P MainPID "+unit))
}

// child returns the process of pgagroal.service with this title.
func (m *machine) child(t *testing.T, title string) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, `pgrep -P $(systemctl show -P MainPID pgagroal) -f '^pgagroal: `+title+`'`))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// packaged makes the .deb of this checkout under a version, or takes the one that is there.
func packaged(t *testing.T, out, version string) string {
	t.Helper()
	deb := filepath.Join(out, "pgagroal-go_"+version+"-1_amd64.deb")
	if _, err := os.Stat(deb); err == nil {
		return deb
	}
	work := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "deb", "VERSION="+version, "DIST="+work)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("make deb: %v\n%s", err, &said)
	}
	// The last step is to rename, so that no half of a package is found the next time.
	must(t, os.MkdirAll(out, 0o755))
	b, err := os.ReadFile(filepath.Join(work, filepath.Base(deb)))
	must(t, err)
	must(t, os.WriteFile(deb+".new", b, 0o644))
	must(t, os.Rename(deb+".new", deb))
	return deb
}
