package ipc

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fillDescriptors leaves this process no room for another descriptor until the
// function that it returns is called.
func fillDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	low := was
	low.Cur = min(was.Cur, 200)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	if len(fds) == 0 {
		t.Fatal("not one descriptor could be opened: the test tests nothing")
	}
	return func() {
		closeAll(fds)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
}

// A process without room for a descriptor loses that one, and not its link.
func TestMessageWhoseDescriptorHadNoRoomComesWithoutIt(t *testing.T) {
	ours, theirs, err := Pair(RoleSupervisor, RoleWorker, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	worker, err := FromFD(fd, RoleWorker, RoleSupervisor, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	ours.SetPhase(PhaseRunning)
	worker.SetPhase(PhaseRunning)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i, full := range []bool{true, false} {
		if err := ours.Send(&NewClient{ID: uint64(i)}, int(file.Fd())); err != nil {
			t.Fatal(err)
		}
		release := func() {}
		if full {
			release = fillDescriptors(t)
		}
		env, err := worker.Receive()
		release()
		if err != nil {
			t.Fatalf("full %v: %v", full, err)
		}
		if m, ok := env.Message.(*NewClient); !ok || m.ID != uint64(i) || (len(env.FDs) == 0) != full {
			t.Errorf("full %v: got %+v with descriptors %v", full, env.Message, env.FDs)
		}
		env.CloseFDs()
	}
}
