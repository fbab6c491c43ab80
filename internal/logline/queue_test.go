package logline

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// generous bounds every wait; it is reached only when something is broken.
const generous = 30 * time.Second

// stuck is a writer whose Write waits while a test holds mu, and fails with err.
type stuck struct {
	mu      sync.Mutex
	reached chan struct{} // gets a value when Write is called
	err     error
	got     bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.reached <- struct{}{}:
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.got.Write(p)
}

func newStuck() *stuck { return &stuck{reached: make(chan struct{}, 1)} }

func TestLogThatStallsStopsNobodyAndSaysWhatIsMissing(t *testing.T) {
	w := newStuck()
	w.mu.Lock()
	q := NewQueue(w)
	log := New(q, "", slog.LevelInfo, "p")
	log.Info("first")
	<-w.reached // from now on lines wait behind this one
	text := strings.Repeat("x", 1000)
	const lines = 2 * queueSize / 1000
	for i := range lines {
		Unlimited(log).Info("filler", "i", i, "text", text)
	}
	w.mu.Unlock()
	if q.Close(generous); strings.Count(w.got.String(), "\n") < queueSize/1200 {
		t.Fatalf("%d bytes were written", w.got.Len())
	}
	all := strings.Split(strings.TrimSuffix(w.got.String(), "\n"), "\n")
	kept := len(all) - 2 // without the first line and the report
	for i, line := range all[1 : len(all)-1] {
		if !strings.Contains(line, fmt.Sprintf(" filler i=%d text=", i)) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if kept*1000 > queueSize {
		t.Errorf("%d lines were kept", kept)
	}
	want := fmt.Sprintf("WARN  p[%d] lines of the log are lost, it could not be written lines=%d", os.Getpid(), lines-kept)
	if all[len(all)-1] != want {
		t.Errorf("the end is %q, not %q", all[len(all)-1], want)
	}
}

func TestLinesAfterALossAreWritten(t *testing.T) {
	w := newStuck()
	q := NewQueue(w)
	log := New(q, "", slog.LevelInfo, "p")
	w.mu.Lock()
	w.err = errors.New("the disk is full")
	log.Info("one")
	log.Info("two")
	w.mu.Unlock()
	until(t, func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.lost == 2 })
	w.mu.Lock()
	w.err = nil
	w.mu.Unlock()
	log.Info("three")
	if !q.Close(generous) {
		t.Error("lines are missing")
	}
	all := strings.Split(w.got.String(), "\n")
	if len(all) != 3 || !strings.HasSuffix(all[0], " three") || !strings.HasSuffix(all[1], " lines=2") {
		t.Errorf("%q", all)
	}
}

func TestEndWaitsForTheLogButNotForEver(t *testing.T) {
	w := newStuck()
	q := NewQueue(w)
	for i := range 1000 {
		fmt.Fprintln(q, i)
	}
	if !q.Close(generous) || strings.Count(w.got.String(), "\n") != 1000 {
		t.Errorf("%d lines were written before the end", strings.Count(w.got.String(), "\n"))
	}
	q = NewQueue(w)
	w.mu.Lock()
	fmt.Fprintln(q, "never")
	if q.Close(10 * time.Millisecond) {
		t.Error("a line that can't be written counts as written")
	}
	w.mu.Unlock()
	<-q.done
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(generous); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came to that")
		}
	}
}

// childVariable makes this test binary a process that logs to its standard error.
const childVariable = "LOGLINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		q := NewQueue(os.Stderr)
		log := New(q, "", slog.LevelInfo, "child")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the reader of the log is gone
		log.Info("a line for nobody")
		written := q.Close(generous)
		fmt.Println("alive, written:", written)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestReaderOfTheLogThatIsGoneEndsNobody(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r.Close()
	in.Close()
	if err := cmd.Wait(); err != nil || out.String() != "alive, written: false\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestPipeThatIsNotBlockingIsWaitedFor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	q := NewQueue(w)
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), true) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 999) + "\n"
	for range 200 { // more than a pipe holds
		fmt.Fprint(q, line)
	}
	read := make(chan int)
	go func() {
		n, b := 0, make([]byte, 4096)
		for {
			m, err := r.Read(b)
			n += m
			if err != nil {
				read <- n
				return
			}
		}
	}()
	if !q.Close(generous) {
		t.Error("lines are missing")
	}
	w.Close()
	if n := <-read; n != 200*len(line) {
		t.Errorf("%d bytes came through", n)
	}
}
