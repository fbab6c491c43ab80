package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// limit bounds every wait; it is never reached unless something is broken.
const limit = 60 * time.Second

// program is this test binary, which is the program when a variable says so.
func TestMain(m *testing.M) {
	if os.Getenv("SCRIPTRUNNER_TEST") != "" {
		main()
	}
	os.Exit(m.Run())
}

// setup makes a configuration with one script that ends with code 5.
func setup(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	conf := fmt.Sprintf(`[pgagroal]
host = 127.0.0.1
port = 2345
unix_socket_dir = %[1]s
state_dir = %[1]s
failover = on
failover_script = %[1]s/hook
[a]
host = 127.0.0.1
port = 1
[b]
host = 127.0.0.1
port = 2
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "pgagroal.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("#!/bin/sh\nexit 5\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// notifications opens a socket as the service manager has it.
func notifications(t *testing.T, dir string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func notified(t *testing.T, c *net.UnixConn, want string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%s was never notified: %v", want, err)
		}
		if string(buf[:n]) == want {
			return
		}
	}
}

// start returns a function that ends the program, and one that waits for its end.
func start(t *testing.T, cmd *exec.Cmd) (stop, wait func()) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(2*limit, func() { _ = cmd.Process.Kill() })
	wait = func() {
		t.Helper()
		err := cmd.Wait()
		kill.Stop()
		if err != nil {
			t.Errorf("ended with %v: %s", err, stderr.String())
		}
	}
	stop = func() {
		t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		wait()
	}
	return stop, wait
}

// connect is a supervisor that runs the hook once.
func connect(t *testing.T, socket, run string) {
	t.Helper()
	var c *net.UnixConn
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		var err error
		c, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	conn := ipc.NewConn(c, ipc.RoleSupervisor, ipc.RoleRunner, nil)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	receive(t, conn, func(m *ipc.RunnerHello) bool { return m.Build == "devel" })
	secret, err := proc.Prove(filepath.Dir(socket))
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, &ipc.RunnerConfigure{Gen: 1, Secret: ipc.Secret(secret)})
	receive(t, conn, func(m *ipc.RunnerReady) bool { return m.Error == "" && len(m.Hooks) == 1 && m.Hooks[0].Problem == "" })
	conn.SetPhase(ipc.PhaseRunning)
	send(t, conn, &ipc.Run{RunID: run, Hook: "failover", Args: []string{"127.0.0.1", "1", "127.0.0.1", "2"}, Expires: (proc.SinceBoot() + limit).Milliseconds()})
	receive(t, conn, func(m *ipc.RunStarting) bool { return m.RunID == run })
	receive(t, conn, func(m *ipc.RunStarted) bool { return m.PGID > 1 })
	receive(t, conn, func(m *ipc.RunEnded) bool { return m.Exit == 5 })
}

func send(t *testing.T, conn *ipc.Conn, m ipc.Message) {
	t.Helper()
	if err := conn.Send(m); err != nil {
		t.Fatal(err)
	}
}

func receive[M ipc.Message](t *testing.T, conn *ipc.Conn, ok func(M) bool) {
	t.Helper()
	env, err := conn.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if m, is := env.Message.(M); !is || !ok(m) {
		t.Fatalf("got %T %+v", env.Message, env.Message)
	}
}

func TestSocketOfItsOwn(t *testing.T) {
	dir := setup(t)
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(os.Args[0], "-c", filepath.Join(dir, "pgagroal.conf"), "--socket", socket)
	n := notifications(t, dir)
	cmd.Env = []string{"SCRIPTRUNNER_TEST=1", "GORACE=atexit_sleep_ms=0", "NOTIFY_SOCKET=" + filepath.Join(dir, "notify")}
	stop, _ := start(t, cmd)
	notified(t, n, "READY=1")
	notified(t, n, "STATUS=Waiting for a supervisor")
	connect(t, socket, "r")
	notified(t, n, "STATUS=Running failover, run r")
	notified(t, n, "STATUS=Waiting for a supervisor")
	connect(t, socket, "s") // nobody else would start it anew
	stop()
	notified(t, n, "STOPPING=1")
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket file is left: %v", err)
	}
}

// TestSocketOfTheServiceManager: the program ends with its link, without a signal. The service manager listens on.
func TestSocketOfTheServiceManager(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatal("this test needs systemd-socket-activate, of the package systemd: ", err)
	}
	dir := setup(t)
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(activate, "--seqpacket", "--listen="+socket, "--fdname=scriptrunner",
		"-E", "SCRIPTRUNNER_TEST=1", "-E", "GORACE=atexit_sleep_ms=0",
		os.Args[0], "-c", filepath.Join(dir, "pgagroal.conf"))
	_, wait := start(t, cmd)
	connect(t, socket, "r")
	wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the socket file of the service manager is gone: %v", err)
	}
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "no socket named scriptrunner"},
		{[]string{"--socket", "/no/such/dir/s"}, "no such file"},
		{[]string{"x"}, "only options"},
		{[]string{"--nonsense"}, "flag provided but not defined"},
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"pgagroal-scriptrunner"}, c.args...), &out, &errs)
		if code != 1 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, errs.String())
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for arg, want := range map[string]string{"--help": defaultConfig, "--version": release.Line("pgagroal-scriptrunner")} {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"pgagroal-scriptrunner", arg}, &out, &errs)
		if code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, %s", arg, code, out.String())
		}
	}
}
