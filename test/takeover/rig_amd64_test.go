package takeover

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// taken is a process that was taken over: its first thread executes what the test
// wants, under everything that confines it.
type taken struct {
	t     testing.TB
	pid   int
	calls chan func() // for the one thread that may trace
	saved unix.PtraceRegs
	mem   *os.File
	at    uint64 // of a syscall instruction
	buf   uint64 // of memory that put writes to
	dead  bool
}

const bufSize = 1 << 20

// take stops a process and takes it over until the end of the test.
func take(t testing.TB, pid int) *taken {
	t.Helper()
	p := &taken{t: t, pid: pid, calls: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for f := range p.calls {
			f()
		}
	}()
	var err error
	p.do(func() { err = p.attach() })
	if errors.Is(err, unix.EPERM) {
		close(p.calls)
		t.Skip("ptrace isn't allowed here; run the test as root in a container that allows it:", err)
	}
	t.Cleanup(p.release)
	if err != nil {
		t.Fatalf("take process %d over: %v", pid, err)
	}
	// Anonymous memory: nothing that a confined process may not have.
	if r := p.call(unix.SYS_MMAP, 0, bufSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0); r < 0 {
		t.Fatalf("no memory in process %d: %v", pid, unix.Errno(-r))
	} else {
		p.buf = uint64(r)
	}
	return p
}

// do runs f on the thread that traces.
func (p *taken) do(f func()) {
	done := make(chan struct{})
	p.calls <- func() { defer close(done); f() }
	<-done
}

func (p *taken) attach() (err error) {
	if err := unix.PtraceAttach(p.pid); err != nil {
		return err
	}
	var st unix.WaitStatus
	if _, err := unix.Wait4(p.pid, &st, unix.WALL, nil); err != nil {
		return err
	}
	if err := unix.PtraceGetRegs(p.pid, &p.saved); err != nil {
		return err
	}
	if p.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0); err != nil {
		return err
	}
	p.at, err = p.find([]byte{0x0f, 0x05})
	return err
}

// find returns the address of some bytes in the program's text.
func (p *taken) find(what []byte) (uint64, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || !strings.Contains(mode, "x") {
			continue
		}
		text := make([]byte, to-from)
		if _, err := p.mem.ReadAt(text, int64(from)); err != nil {
			continue // the kernel's own page
		}
		if i := bytes.Index(text, what); i >= 0 {
			return from + uint64(i), nil
		}
	}
	return 0, errors.New("the bytes aren't there")
}

// release lets the process go on where it was.
func (p *taken) release() {
	p.do(func() {
		if p.mem != nil {
			p.mem.Close()
		}
		if p.dead {
			return
		}
		_ = unix.PtraceSetRegs(p.pid, &p.saved)
		_ = unix.PtraceDetach(p.pid)
	})
	close(p.calls)
}

// call executes a system call and returns its result, below zero for an error.
func (p *taken) call(number uint64, args ...uint64) int64 {
	p.t.Helper()
	r := p.saved
	r.Orig_rax, r.Rip, r.Rax = ^uint64(0), p.at, number
	full := append(args, make([]uint64, 6)...)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = full[0], full[1], full[2], full[3], full[4], full[5]
	return p.step(r)
}

// step executes one instruction with these registers.
func (p *taken) step(r unix.PtraceRegs) (result int64) {
	p.t.Helper()
	var err error
	p.do(func() { result, err = p.stepHere(r) })
	if err != nil {
		p.t.Fatalf("execute in process %d: %v", p.pid, err)
	}
	return result
}

func (p *taken) stepHere(r unix.PtraceRegs) (int64, error) {
	if p.dead {
		return 0, errors.New("it was killed")
	}
	if err := unix.PtraceSetRegs(p.pid, &r); err != nil {
		return 0, err
	}
	for {
		if err := unix.PtraceSingleStep(p.pid); err != nil {
			return 0, err
		}
		var st unix.WaitStatus
		if _, err := unix.Wait4(p.pid, &st, unix.WALL, nil); err != nil {
			return 0, err
		}
		if !st.Stopped() {
			p.dead = true
			return 0, nil
		}
		if st.StopSignal() == syscall.SIGTRAP {
			break // others are for Go's scheduler, which has to do without
		}
	}
	if err := unix.PtraceGetRegs(p.pid, &r); err != nil {
		return 0, err
	}
	return int64(r.Rax), nil
}

// instruction executes a machine instruction with a number in rax, which a process
// can do that has found a way to run code of its choice.
func (p *taken) instruction(code []byte, rax uint64) int64 {
	p.t.Helper()
	old := make([]byte, len(code))
	_, rerr := p.mem.ReadAt(old, int64(p.at))
	_, werr := p.mem.WriteAt(code, int64(p.at))
	if err := errors.Join(rerr, werr); err != nil {
		p.t.Fatal(err)
	}
	r := p.saved
	r.Orig_rax, r.Rip, r.Rax = ^uint64(0), p.at, rax
	result := p.step(r)
	if !p.dead {
		if _, err := p.mem.WriteAt(old, int64(p.at)); err != nil {
			p.t.Fatal(err)
		}
	}
	return result
}

// put writes bytes into the process's memory and returns their address.
func (p *taken) put(offset uint64, b []byte) uint64 {
	p.t.Helper()
	if _, err := p.mem.WriteAt(b, int64(p.buf+offset)); err != nil {
		p.t.Fatal(err)
	}
	return p.buf + offset
}

// get reads back from where put has written.
func (p *taken) get(offset uint64, n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := p.mem.ReadAt(b, int64(p.buf+offset)); err != nil {
		p.t.Fatal(err)
	}
	return b
}
