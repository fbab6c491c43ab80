package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// mainVariable makes this test binary the program.
const mainVariable = "PGAGROAL_TEST_MAIN"

func TestMain(m *testing.M) {
	if code, ok := child(); ok {
		os.Exit(code)
	}
	if os.Getenv(mainVariable) != "" {
		os.Exit(supervise())
	}
	os.Exit(m.Run())
}

// unprivileged is a user that tests run as when they are root, as the program refuses to be.
var unprivileged = &syscall.Credential{Uid: 65534, Gid: 65534}

// program runs the program to its end and returns exit code and output.
func program(t *testing.T, asRoot bool, args ...string) (code int, out, errOut string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	if os.Geteuid() == 0 && !asRoot {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged}
	}
	// Files, not pipes: what runs on in the background keeps them open.
	o, e := scratch(t), scratch(t)
	cmd.Stdout, cmd.Stderr = o, e
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), content(t, o), content(t, e)
}

func scratch(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// directory makes a configuration directory that everybody may use.
func directory(t *testing.T, main string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgagroal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		config.FileConfig: strings.ReplaceAll(main, "DIR", dir), config.FileHBA: "host all all all all\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// limit is far more than anything here takes.
const limit = 30 * time.Second

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestDaemonServesAndEndsOnSIGTERM(t *testing.T) {
	port := fmt.Sprint(pgtest.Port(t))
	main := strings.Replace(good, "27999", port, 1)
	root := os.Geteuid() == 0
	if root {
		main = strings.Replace(main, "workers", "user = nobody\nworkers", 1)
	}
	dir := directory(t, main)
	// As root it gives its privileges up itself.
	if code, _, errOut := program(t, root, "-d", "-D", dir); code != 0 {
		t.Fatalf("%d, %q", code, errOut)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pgagroal."+port+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || strings.Contains(string(status), "Uid:\t0") {
		t.Errorf("it runs as root: %v, %s", err, status)
	}
	for _, address := range [][2]string{{"tcp", "127.0.0.1:" + port}, {"unix", dir + "/.s.PGSQL." + port}} {
		nc, err := net.Dial(address[0], address[1])
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "sockets and pid file are gone", func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) == 2
	})
}

const good = `[pgagroal]
host = 127.0.0.1
port = 27999
unix_socket_dir = DIR
workers = 1
failover_start_timeout = 10ms

[one]
host = 127.0.0.1
port = 1
primary = on
`

func TestHelpAndVersionSucceed(t *testing.T) {
	for _, flag := range []string{"-V", "--version", "-?", "--help"} {
		var out, errOut bytes.Buffer
		if code := run([]string{"pgagroal", flag}, &out, &errOut); code != 0 || !strings.Contains(out.String(), "pgagroal") || errOut.Len() > 0 {
			t.Errorf("%s: %d, %q, %q", flag, code, out.String(), errOut.String())
		}
	}
}

func TestHelpNamesTheLettersOfPgagroal(t *testing.T) {
	var out bytes.Buffer
	run([]string{"pgagroal", "-?"}, &out, &out)
	for _, letter := range "caluFASDdtV?" {
		if !strings.Contains(out.String(), ", -"+string(letter)) {
			t.Errorf("-%c is missing in %s", letter, out.String())
		}
	}
}

func TestWrongUseFails(t *testing.T) {
	for _, args := range [][]string{{"--nonsense"}, {"word"}, {"-D", "/nonexistent"}, {"-c"}} {
		var out, errOut bytes.Buffer
		if code := run(append([]string{"pgagroal"}, args...), &out, &errOut); code != 1 || !strings.HasPrefix(errOut.String(), "pgagroal: ") {
			t.Errorf("%v: %d, %q", args, code, errOut.String())
		}
	}
}

func TestEveryProblemHasALineWithItsPlace(t *testing.T) {
	dir := directory(t, "[pgagroal]\nhost = x\nport = none\nnonsense = 1\n[one]\nhost = x\nport = 0x\n")
	code, _, errOut := program(t, false, "-D", dir)
	lines := strings.Split(strings.TrimSpace(errOut), "\n")
	if code != 1 || len(lines) != 3 {
		t.Fatalf("%d, %q", code, lines)
	}
	for i, n := range []int{3, 4, 7} {
		if want := fmt.Sprintf("pgagroal: %s/pgagroal.conf:%d:", dir, n); !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q does not begin with %q", lines[i], want)
		}
	}
}

func TestTestFlagChecksAndPrints(t *testing.T) {
	code, out, errOut := program(t, false, "-t", "-D", directory(t, good))
	if code != 0 || !strings.Contains(out, "max_connections = 100") {
		t.Errorf("%d, %q, %q", code, out, errOut)
	}
	code, out, errOut = program(t, false, "-t", "-D", directory(t, strings.Replace(good, "port = 27999", "", 1)))
	if code != 1 || out != "" || !strings.Contains(errOut, "port: not set") {
		t.Errorf("%d, %q, %q", code, out, errOut)
	}
}

func TestTestFlagRefusesTwoNamesOfOneAddress(t *testing.T) {
	two := good + "\n[two]\nhost = localhost\nport = 1\n"
	code, out, errOut := program(t, false, "-t", "-D", directory(t, two))
	if code != 1 || out != "" || !strings.Contains(errOut, "[two] is the same server as [one]") {
		t.Errorf("%d, %q, %q", code, out, errOut)
	}
}

func TestRootWithoutUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be refused as root; run the tests as root too")
	}
	code, _, errOut := program(t, true, "-D", directory(t, good))
	if code != 1 || !strings.Contains(errOut, "set user in pgagroal.conf") {
		t.Errorf("%d, %q", code, errOut)
	}
}

func TestRootWithoutUserIsToldOfEveryOtherProblemToo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be refused as root; run the tests as root too")
	}
	main := strings.Replace(good, "port = 27999", "failover = on\nfailover_script = /nonexistent", 1)
	code, out, errOut := program(t, true, "-t", "-D", directory(t, main))
	if code != 1 || out != "" {
		t.Errorf("%d, %q", code, out)
	}
	for _, text := range []string{"set user in pgagroal.conf", "scripts can't be checked", "port: not set", "failover: on with fewer than two servers"} {
		if !strings.Contains(errOut, text) {
			t.Errorf("%q is missing in %q", text, errOut)
		}
	}
	if strings.Contains(errOut, "/nonexistent") {
		t.Errorf("a script was checked for nobody: %q", errOut)
	}
}

func TestTestFlagWarnsOfAPortThatAnotherProgramHas(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := directory(t, strings.Replace(good, "27999", fmt.Sprint(l.Addr().(*net.TCPAddr).Port), 1))
	code, out, errOut := program(t, false, "-t", "-D", dir)
	want := fmt.Sprintf("pgagroal: warning: %s/pgagroal.conf:3: port: %s: address already in use; ", dir, l.Addr())
	if code != 0 || out == "" || !strings.HasPrefix(errOut, want) {
		t.Errorf("%d, %q, want %q", code, errOut, want)
	}
	// This test counts as a running pgagroal, since it is the same program.
	pidFile := filepath.Join(dir, fmt.Sprintf("pgagroal.%d.pid", l.Addr().(*net.TCPAddr).Port))
	if err := os.WriteFile(pidFile, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := program(t, false, "-t", "-D", dir); code != 0 || errOut != "" {
		t.Errorf("beside a pgagroal of this configuration: %d, %q", code, errOut)
	}
	if err := errors.Join(os.Remove(pidFile), l.Close()); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := program(t, false, "-t", "-D", dir); code != 0 || errOut != "" {
		t.Errorf("with a free port: %d, %q", code, errOut)
	}
}

func TestPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := directory(t, strings.Replace(good, "27999", fmt.Sprint(l.Addr().(*net.TCPAddr).Port), 1))
	code, _, errOut := program(t, false, "-D", dir)
	if code != 1 || !strings.Contains(errOut, "address already in use") {
		t.Errorf("%d, %q", code, errOut)
	}
	code, _, errOut = program(t, false, "-d", "-D", dir)
	if code != 1 || !strings.Contains(errOut, "address already in use") || !strings.Contains(errOut, "could not start") {
		t.Errorf("in the background: %d, %q", code, errOut)
	}
}
