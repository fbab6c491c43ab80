package ipc

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const refsUser = "PGAGROAL_TEST_REFS" // set in the process that is such a user's

// tooManyRefs runs the rest of a test in a process of a user that has nothing else under way, since the kernel counts
// descriptors in packets for each user and spares those who may exceed limits.
func tooManyRefs(t *testing.T) (here bool) {
	t.Helper()
	if os.Getenv(refsUser) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(slices.Clone(os.Environ()), refsUser+"=1")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64217, Gid: 64217}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// crowd puts more descriptors into a packet than the limit allows, so that the kernel refuses any other. Free reads it.
func crowd(t *testing.T) (free func()) {
	t.Helper()
	lim := unix.Rlimit{Cur: 64, Max: 64}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	rights := unix.UnixRights(slices.Repeat([]int{pair[0]}, 65)...)
	if err := unix.Sendmsg(pair[0], []byte("x"), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(pair[0]), nil, 0); !errors.Is(err, unix.ETOOMANYREFS) {
		t.Fatalf("one more descriptor: %v", err)
	}
	return func() {
		// What has no room for the descriptors gets the packet without them.
		if _, _, _, _, err := unix.Recvmsg(pair[1], make([]byte, 1), nil, 0); err != nil {
			t.Error(err)
		}
	}
}

func TestOutboxWaitsWhileTooManyDescriptorsAreInPackets(t *testing.T) {
	if !tooManyRefs(t) {
		return
	}
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	free := crowd(t)
	o := NewOutbox(a, 10, never, func(err error) { t.Error(err) })
	fd, _ := watchedFD(t)
	if err := o.Send(&NewClient{ID: 1}, fd); err != nil {
		t.Fatal(err)
	}
	awaitState(t, o, 0, true)
	free()
	if err := b.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	env, err := b.Receive()
	if m, ok := env.Message.(*NewClient); err != nil || !ok || m.ID != 1 || len(env.FDs) != 1 {
		t.Errorf("received %v, %v", env.Message, err)
	}
	env.CloseFDs()
	o.Close()
	awaitDone(t, o)
}

func TestOutboxGivesUpWhenDescriptorsStayInPackets(t *testing.T) {
	if !tooManyRefs(t) {
		return
	}
	a, _ := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	crowd(t)
	failed := make(chan error, 1)
	o := NewOutbox(a, 10, 2*refsPause, func(err error) { failed <- err })
	fd, _ := watchedFD(t)
	if err := o.Send(&NewClient{ID: 1}, fd); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, unix.ETOOMANYREFS) {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Error("the writer waits beyond its limit")
	}
	o.Close()
	awaitDone(t, o)
}
