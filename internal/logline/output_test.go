package logline

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullPipe is a pipe that nobody reads and into which nothing fits. w blocks.
func fullPipe(t *testing.T) (r *os.File, w int) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	r = os.NewFile(uintptr(fds[0]), "pipe")
	t.Cleanup(func() { r.Close() })
	must(t, unix.SetNonblock(fds[1], true))
	for {
		if _, err := unix.Write(fds[1], make([]byte, 4096)); err != nil {
			break
		}
	}
	must(t, unix.SetNonblock(fds[1], false))
	return r, fds[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opened is a file for Follow, which takes the descriptor over.
func opened(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	must(t, err)
	return fd
}

// keepStderr has a test's Follow of a stream change the standard error only until its end.
func keepStderr(t *testing.T) {
	t.Helper()
	saved, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() {
		_ = unix.Dup3(saved, unix.Stderr, 0)
		unix.Close(saved)
	})
}

// TestAStuckStreamCanBeLeft: nobody reads the log, and a reload directs the process to a file.
func TestAStuckStreamCanBeLeft(t *testing.T) {
	keepStderr(t)
	_, stuck := fullPipe(t)
	path := filepath.Join(t.TempDir(), "log")
	q := NewQueue(newStuck())
	log := New(q, "", slog.LevelInfo, "p")
	Follow(log, Settings{Level: slog.LevelInfo}, []int{stuck})
	const lines = 50
	for i := range lines {
		log.Info("to the pipe", "i", i)
	}
	Follow(log, Settings{Level: slog.LevelInfo}, []int{opened(t, path)})
	log.Info("to the file")
	until(t, func() bool { b, _ := os.ReadFile(path); return strings.Contains(string(b), "to the file") })
	log.Info("the last")
	if !q.Close(generous) {
		t.Error("lines are missing in the file")
	}
	b, err := os.ReadFile(path)
	must(t, err)
	lost := 0
	for _, m := range regexp.MustCompile(`lines of the log are lost, it could not be written lines=(\d+)\n`).FindAllSubmatch(b, -1) {
		n, err := strconv.Atoi(string(m[1]))
		must(t, err)
		lost += n
	}
	if lost != lines || strings.Contains(string(b), "to the pipe") {
		t.Errorf("%d lines count as lost; the file has %q", lost, b)
	}
}

// TestAStuckStreamIsNotLeftForItself: a signal has the same pipe opened again, and it is only slow.
func TestAStuckStreamIsNotLeftForItself(t *testing.T) {
	_, fd := fullPipe(t)
	d := newDescriptor(fd, true)
	defer d.Close()
	again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(again)
	if d.leaveFor(placeOf(again)); d.left.Load() {
		t.Error("it was left for itself")
	}
	other := opened(t, os.DevNull)
	defer unix.Close(other)
	if d.leaveFor(placeOf(other)); !d.left.Load() {
		t.Error("it was not left")
	}
}

// TestALineAfterAPartOfOneBeginsAnew writes a line for which there is no room.
func TestALineAfterAPartOfOneBeginsAnew(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	r := os.NewFile(uintptr(fds[0]), "socket")
	defer r.Close()
	d := newDescriptor(fds[1], true)
	d.left.Store(true) // it doesn't wait for ever
	long := strings.Repeat("x", 8<<20) + "\n"
	n, err := d.Write([]byte(long))
	if n <= 0 || n >= len(long) || err == nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one\n", "two\n"} {
		if n, err := d.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	must(t, d.Close())
	if rest, err := io.ReadAll(r); string(rest) != "\none\ntwo\n" {
		t.Errorf("then it has %q, %v", rest, err)
	}
}

// TestALineInAPipeIsWhole: a pipe promises for no more than 4096 bytes that nobody writes between them.
func TestALineInAPipeIsWhole(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	q := NewQueue(w)
	log := New(q, "", slog.LevelInfo, "p")
	log.Info("m", "text", strings.Repeat("x", MaxLine))
	if !q.Close(generous) {
		t.Error("a line is missing")
	}
	w.Close()
	if b, err := io.ReadAll(r); len(b) > 4096 || len(b) < 1024 || !strings.HasSuffix(string(b), "...\n") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
