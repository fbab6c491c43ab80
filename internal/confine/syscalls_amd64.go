package confine

import (
	"os"

	"golang.org/x/sys/unix"
)

const auditArch = unix.AUDIT_ARCH_X86_64

// always are the harmless calls of the event loops, of the link, of Go's runtime and of
// its net package, allowed with any arguments.
var always = []uint32{
	unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1,
	unix.SYS_PPOLL, unix.SYS_FSTAT, // the log waits with one, and sees with the other whether it is a pipe
	unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
	unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_SHUTDOWN, unix.SYS_EVENTFD2, unix.SYS_TIMERFD_SETTIME,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_RESTART_SYSCALL,
	unix.SYS_PREAD64, unix.SYS_SCHED_GETAFFINITY, // Go rereads the CPU limits from time to time
	unix.SYS_GETRANDOM, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_CLOCK_GETTIME,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_MEMFD_CREATE, // the state of a session that goes to another worker
}

// allowed returns the list of calls for a policy. All other calls fail with EPERM.
func allowed(p Policy) []call {
	calls := []call{
		// TCP fast open would connect without Landlock's check of the port.
		{unix.SYS_SENDTO, []check{{3, unix.MSG_FASTOPEN, []uint32{0}}}},
		{unix.SYS_SENDMSG, []check{{2, unix.MSG_FASTOPEN, []uint32{0}}}},
		{unix.SYS_MMAP, []check{{2, unix.PROT_EXEC, []uint32{0}}}},
		{unix.SYS_MPROTECT, []check{{2, unix.PROT_EXEC, []uint32{0}}}},
		{unix.SYS_FCNTL, []check{{1, all, []uint32{unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC}}}},
		{unix.SYS_TGKILL, []check{{0, all, []uint32{uint32(os.Getpid())}}}}, // the runtime stops its own threads with it
		{unix.SYS_CLONE, []check{{0, unix.CLONE_THREAD | newNamespaces, []uint32{unix.CLONE_THREAD}}}},
		{unix.SYS_DUP3, []check{{1, all, []uint32{2}}}}, // a log that is opened again becomes standard error, too
		{unix.SYS_PRCTL, []check{{0, all, []uint32{unix.PR_SET_VMA, unix.PR_SET_TIMERSLACK}}}},
	}
	stream := check{1, ^uint32(unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK), []uint32{unix.SOCK_STREAM}}
	if len(p.Ports) > 0 {
		// Not MPTCP, whose connections escape Landlock's check of the port.
		calls = append(calls, call{unix.SYS_SOCKET, []check{
			{0, all, []uint32{unix.AF_INET, unix.AF_INET6}}, stream, {2, all, []uint32{0, unix.IPPROTO_TCP}},
		}})
	}
	if len(p.SocketDirs) > 0 {
		calls = append(calls, call{unix.SYS_SOCKET, []check{{0, all, []uint32{unix.AF_UNIX}}, stream, {2, all, []uint32{0}}}})
	}
	if len(p.Ports)+len(p.SocketDirs) > 0 {
		calls = append(calls, call{unix.SYS_CONNECT, nil})
	}
	if p.Accept {
		calls = append(calls, call{unix.SYS_ACCEPT4, nil})
	}
	if p.Ring {
		calls = append(calls,
			call{unix.SYS_IO_URING_REGISTER, []check{{1, all, []uint32{ringEnable, ringRegister, ringUnregister}}}},
			call{unix.SYS_IO_URING_ENTER, nil})
	}
	for _, n := range append(always, libraryCalls...) {
		calls = append(calls, call{n, nil})
	}
	return calls
}

const (
	all           = ^uint32(0)
	newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	// Operations of io_uring_register: enable the ring, and register or unregister the
	// ring's descriptor for a thread.
	ringEnable     = 12
	ringRegister   = 20
	ringUnregister = 21
)
