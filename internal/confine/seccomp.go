package confine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call permits a system call when all its checks hold.
type call struct {
	number uint32
	checks []check
}

// check holds when the low 32 bits of an argument, after a mask, are one of values. The
// kernel doesn't use the high 32 bits of any argument that has a check.
type check struct {
	arg    uint32
	mask   uint32
	values []uint32
}

// Offsets in struct seccomp_data, on little-endian machines.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// x32 is the bit that marks calls of the x32 interface.
const x32 = 0x40000000

// filterCalls installs the filter in all threads.
func filterCalls(p Policy, r *Report) error {
	calls := allowed(p)
	if calls == nil {
		r.Lacking = append(r.Lacking, "system calls (no list for "+runtime.GOARCH+")")
		return nil
	}
	prog := assemble(calls)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// SPEC_ALLOW keeps the mitigations against speculative execution off. They slow down
	// the process, and protect mainly from untrusted code inside it, of which it has none.
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL || errno == unix.EPERM:
		r.Lacking = append(r.Lacking, "system calls (seccomp: "+errno.Error()+")")
		return nil
	case errno != 0:
		return fmt.Errorf("filter system calls: %w", errno)
	case thread != 0:
		return errors.New("filter system calls: a thread has a filter of its own")
	}
	r.InForce = append(r.InForce, "system calls (seccomp)")
	return nil
}

// assemble makes the program that the kernel runs for each system call. The calls with
// checks come first, because the kernel remembers which numbers always pass and doesn't
// run the program for them.
func assemble(calls []call) []unix.SockFilter {
	b := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber),
		jump(unix.BPF_JGE, x32, 1, 0),
		// Without clone3 the caller uses clone, whose flags the filter can check.
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1),
		ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)),
	}
	var plain []unix.SockFilter
	for _, c := range calls {
		if len(c.checks) > 0 {
			b = append(b, c.assemble()...)
			continue
		}
		plain = append(plain, jump(unix.BPF_JEQ, c.number, 0, 1), ret(unix.SECCOMP_RET_ALLOW))
	}
	return append(append(b, plain...), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
}

// assemble makes the part of the program for one call. It expects the number of the
// system call in the accumulator, and leaves it there when the call is another one.
func (c call) assemble() []unix.SockFilter {
	body := []unix.SockFilter{ret(unix.SECCOMP_RET_ALLOW), load(offNumber)}
	for i := len(c.checks) - 1; i >= 0; i-- {
		k := c.checks[i]
		test := []unix.SockFilter{load(offArgs + 8*k.arg), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k.mask}}
		for j, v := range k.values {
			left := len(k.values) - 1 - j
			miss := 0
			if left == 0 {
				miss = len(body) - 1 // to the load of the number at the end
			}
			test = append(test, jump(unix.BPF_JEQ, v, left, miss))
		}
		body = append(test, body...)
	}
	return append([]unix.SockFilter{jump(unix.BPF_JEQ, c.number, 0, len(body))}, body...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
