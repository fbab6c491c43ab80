package takeover

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// target is what an attacker finds around the process that he has taken over.
type target struct {
	supervisor   uint64
	control      string // path of the control socket
	users        string // path of a file with passwords
	server, pool int    // TCP ports
}

func targetOf(p *pool.Pool, c *pgtest.Cluster) target {
	return target{
		supervisor: uint64(p.PID()), control: filepath.Join(p.Dir, "run", fmt.Sprintf(".s.pgagroal.%d", p.Port)),
		users: filepath.Join(p.Dir, "pgagroal_users.conf"), server: c.Primary().Port, pool: p.Port,
	}
}

func (p *taken) path(s string) uint64 { return p.put(4096, append([]byte(s), 0)) }

// connect makes a socket and connects it.
func (p *taken) connect(family, typ, proto uint64, address []byte) int64 {
	s := p.call(unix.SYS_SOCKET, family, typ|unix.SOCK_CLOEXEC, proto)
	if s < 0 {
		return s
	}
	if r := p.call(unix.SYS_CONNECT, uint64(s), p.put(0, address), uint64(len(address))); r < 0 {
		p.call(unix.SYS_CLOSE, uint64(s))
		return r
	}
	return s
}

func unixAddress(path string) []byte {
	return append(append([]byte{unix.AF_UNIX, 0}, path...), 0)
}

func tcpAddress(port int) []byte { return tcpAddressOn([4]byte{127, 0, 0, 1}, port) }

func tcpAddressOn(host [4]byte, port int) []byte {
	b := make([]byte, unix.SizeofSockaddrInet4)
	b[0] = unix.AF_INET
	binary.BigEndian.PutUint16(b[2:], uint16(port))
	copy(b[4:], host[:])
	return b
}

// attempt is something that a worker can't do, and that any process of its user can.
type attempt struct {
	name string
	do   func(*taken, target) int64
	want unix.Errno
	// otherwise is how it ends in a process that isn't confined.
	otherwise unix.Errno
}

const here = ^uint64(99) // AT_FDCWD

var attempts = []attempt{
	{"ask on the control socket", func(p *taken, at target) int64 {
		return p.connect(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0, unixAddress(at.control))
	}, unix.EPERM, 0},
	{"make a Unix stream socket", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	}, unix.EPERM, 0},
	{"read a file", func(p *taken, at target) int64 {
		return p.call(unix.SYS_OPENAT, here, p.path(at.users), unix.O_RDONLY)
	}, unix.EPERM, 0},
	{"look at a file", func(p *taken, at target) int64 {
		return p.call(unix.SYS_NEWFSTATAT, here, p.path(at.users), p.put(0, make([]byte, 256)))
	}, unix.EPERM, 0},
	{"change a file's mode", func(p *taken, at target) int64 {
		return p.call(unix.SYS_FCHMODAT, here, p.path(at.users), 0o600)
	}, unix.EPERM, 0},
	{"connect to another port", func(p *taken, at target) int64 {
		return p.connect(unix.AF_INET, unix.SOCK_STREAM, 0, tcpAddress(at.pool))
	}, unix.EACCES, 0},
	{"make a UDP socket", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
	}, unix.EPERM, 0},
	{"give a socket an address", func(p *taken, _ target) int64 {
		s := p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
		return p.call(unix.SYS_BIND, uint64(s), p.put(0, tcpAddress(0)), unix.SizeofSockaddrInet4)
	}, unix.EPERM, 0},
	{"make a pair of sockets", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, p.put(0, make([]byte, 8)))
	}, unix.EPERM, 0},
	{"signal the supervisor", func(p *taken, at target) int64 {
		return p.call(unix.SYS_KILL, at.supervisor, 0)
	}, unix.EPERM, 0},
	{"signal a thread of the supervisor", func(p *taken, at target) int64 {
		return p.call(unix.SYS_TGKILL, at.supervisor, at.supervisor, 0)
	}, unix.EPERM, 0},
	{"hold on to the supervisor", func(p *taken, at target) int64 {
		return p.call(unix.SYS_PIDFD_OPEN, at.supervisor, 0)
	}, unix.EPERM, 0},
	{"slow the supervisor down", func(p *taken, at target) int64 {
		return p.call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, at.supervisor, 19)
	}, unix.EPERM, 0},
	{"limit the supervisor", func(p *taken, at target) int64 {
		return p.call(unix.SYS_PRLIMIT64, at.supervisor, unix.RLIMIT_NOFILE, 0, p.put(0, make([]byte, 16)))
	}, unix.EPERM, 0},
	{"start a process", func(p *taken, _ target) int64 {
		// With a bad address for the result, so that a process that may start one doesn't.
		return p.call(unix.SYS_CLONE, unix.CLONE_PIDFD|uint64(unix.SIGCHLD), 0, 8)
	}, unix.EPERM, unix.EFAULT},
	{"execute a program", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_EXECVE, 0, 0, 0)
	}, unix.EPERM, unix.EFAULT},
	{"make executable memory", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	}, unix.EPERM, 0},
	{"make memory executable", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_MPROTECT, p.buf+bufSize/2, 4096, unix.PROT_READ|unix.PROT_EXEC)
	}, unix.EPERM, 0},
	{"show its memory", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	}, unix.EPERM, 0},
	{"make an io_uring ring", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_IO_URING_SETUP, 1, p.put(0, make([]byte, 120)))
	}, unix.EPERM, 0},
	{"have signals sent by a descriptor", func(p *taken, at target) int64 {
		return p.call(unix.SYS_FCNTL, 1, unix.F_SETOWN, 0)
	}, unix.EPERM, 0},
	{"become another user", func(p *taken, _ target) int64 {
		return p.call(unix.SYS_SETUID, uint64(os.Getuid()))
	}, unix.EPERM, unix.EPERM},
}

// TestATakenOverWorkerCanDoNothingButItsWork makes every attempt in a live worker of
// each event loop, in the prober, and in the script runner, which has the same user and isn't
// confined: what fails there too would prove nothing.
func TestATakenOverWorkerCanDoNothingButItsWork(t *testing.T) {
	t.Parallel()
	for _, reactor := range []string{"epoll", "io_uring"} {
		t.Run(reactor, func(t *testing.T) {
			s := pool.PlayOpen(t, 1, pool.Plan{
				Keys:  map[string]string{"workers": "1", "ev_backend": reactor},
				Users: map[string]string{"somebody": "a password of somebody"},
			})
			at := targetOf(s.Pool, s.Cluster)
			worker := take(t, s.Pool.Workers()[0])
			prober := take(t, s.Pool.Prober())
			runner := take(t, s.Pool.Runner())
			for _, a := range attempts {
				if got := errno(a.do(worker, at)); got != a.want {
					t.Errorf("worker: %s: %v, want %v", a.name, got, a.want)
				}
				if got := errno(a.do(prober, at)); got != a.want {
					t.Errorf("prober: %s: %v, want %v", a.name, got, a.want)
				}
				if got := errno(a.do(runner, at)); got != a.otherwise {
					t.Errorf("script runner: %s: %v, want %v", a.name, got, a.otherwise)
				}
			}
			// What stays open, says pgagroal-privsep(7).
			if r := worker.connect(unix.AF_INET, unix.SOCK_STREAM, 0, tcpAddress(at.server)); r < 0 {
				t.Errorf("worker: connect to the port of a server: %v", errno(r))
			}
			if r := worker.connect(unix.AF_INET, unix.SOCK_STREAM, 0, tcpAddressOn([4]byte{127, 9, 9, 9}, at.server)); errno(r) != unix.ECONNREFUSED {
				t.Errorf("worker: connect to that port of a host where nobody listens: %v, want ECONNREFUSED", errno(r))
			}
			if n := len(s.Failover.Runs()); n > 0 {
				t.Errorf("%d scripts ran", n)
			}
		})
	}
}

// TestAWorkerOfAServerByPathReachesNoControlSocket has a worker that needs Unix
// sockets, and needs them to work.
func TestAWorkerOfAServerByPathReachesNoControlSocket(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	p := pool.Start(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}, Keys: map[string]string{"workers": "1"},
	})
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	at := targetOf(p, c)
	worker := take(t, p.Workers()[0])
	for name, tt := range map[string]struct {
		typ  uint64
		path string
		want unix.Errno
	}{
		"the control socket":                       {unix.SOCK_SEQPACKET, at.control, unix.EPERM},
		"the control socket by the permitted kind": {unix.SOCK_STREAM, at.control, unix.EPROTOTYPE},
		"the server":                               {unix.SOCK_STREAM, filepath.Join(n.SocketDir, fmt.Sprintf(".s.PGSQL.%d", n.Port)), 0},
	} {
		got := errno(worker.connect(unix.AF_UNIX, tt.typ, 0, unixAddress(tt.path)))
		if got != tt.want && !(tt.want == unix.EPROTOTYPE && got == unix.EACCES) { // Landlock 9 refuses earlier
			t.Errorf("connect to %s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestATakenOverWorkerServesOnWhenItIsLetGo proves that the rig disturbs nobody.
func TestATakenOverWorkerServesOnWhenItIsLetGo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"workers": "1"}})
	worker := p.Workers()[0]
	client := p.Connect()
	t.Run("taken", func(t *testing.T) {
		if got := errno(take(t, worker).call(unix.SYS_KILL, 0, 0)); got != unix.EPERM {
			t.Errorf("kill: %v", got)
		}
	})
	pool.MustQuery(t, client, "SELECT 1")
	if got := p.Workers(); len(got) != 1 || got[0] != worker {
		t.Errorf("workers are %v, want %d", got, worker)
	}
}

// TestAWorkerThatUsesAnotherInterfaceOfTheKernelIsKilled calls the kernel as a
// 32-bit program would, for which the numbers of the list mean other calls.
func TestAWorkerThatUsesAnotherInterfaceOfTheKernelIsKilled(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"workers": "1"}})
	int80 := []byte{0xcd, 0x80}
	const getpid = 20
	runner := take(t, s.Pool.Runner())
	if got := runner.instruction(int80, getpid); got != int64(s.Pool.Runner()) {
		t.Skip("this kernel has no 32-bit interface:", got)
	}
	worker := take(t, s.Pool.Workers()[0])
	if got := worker.instruction(int80, getpid); !worker.dead {
		t.Errorf("it lives, and the result is %d", got)
	}
	s.Pool.WaitLog("bad system call")
	s.Pool.Connect()
}

func errno(result int64) unix.Errno {
	if result < 0 {
		return unix.Errno(-result)
	}
	return 0
}

// request is a packet as pgagroal-cli sends it.
func request(t *testing.T, command string, args map[string]string) []byte {
	t.Helper()
	ours, theirs, err := ipc.Pair(ipc.RoleControl, ipc.RoleSupervisor, nil)
	pool.Must(t, err)
	defer ours.Close()
	defer theirs.Close()
	pool.Must(t, ours.Send(&ipc.ControlRequest{Version: ipc.Version, Command: command, Args: args}))
	b := make([]byte, ipc.MaxPacket)
	n, err := theirs.Read(b)
	pool.Must(t, err)
	return b[:n]
}

// ask sends a request on the control socket and returns the answer.
func (p *taken) ask(t *testing.T, at target, command string, args map[string]string) string {
	t.Helper()
	s := p.connect(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0, unixAddress(at.control))
	if s < 0 {
		t.Fatalf("connect to the control socket: %v", errno(s))
	}
	defer p.call(unix.SYS_CLOSE, uint64(s))
	b := request(t, command, args)
	if r := p.call(unix.SYS_SENDTO, uint64(s), p.put(8192, b), uint64(len(b)), 0, 0, 0); r < 0 {
		t.Fatalf("send to the control socket: %v", errno(r))
	}
	n := p.call(unix.SYS_RECVFROM, uint64(s), p.buf+8192, ipc.MaxPacket, 0, 0, 0)
	if n < 0 {
		t.Fatalf("receive from the control socket: %v", errno(n))
	}
	return string(p.get(8192, int(n)))
}

// TestATakenOverRunnerOrScriptDecidesNothing asks from within the runner, of which
// every script is a descendant.
func TestATakenOverRunnerOrScriptDecidesNothing(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	at := targetOf(s.Pool, s.Cluster)
	runner := take(t, s.Pool.Runner())
	for _, command := range []string{"failover-trigger", "failover-pause", "switch-to", "clear-server", "shutdown", "conf-get"} {
		args := map[string]string{}
		if command == "switch-to" || command == "clear-server" {
			args["server"] = "n2"
		}
		if got := runner.ask(t, at, command, args); !strings.Contains(got, "permission denied: a script") {
			t.Errorf("%s: %q", command, got)
		}
	}
	for _, command := range []string{"ping", "status", "failover-status"} {
		if got := runner.ask(t, at, command, nil); !strings.Contains(got, `"Status":true`) {
			t.Errorf("%s: %q", command, got)
		}
	}
	// The same user from elsewhere may.
	if out, errs, code := s.Pool.CLI("failover", "pause"); code != 0 {
		t.Errorf("an operator is refused: %d, %s%s", code, out, errs)
	}
	if n := len(s.Failover.Runs()); n > 0 {
		t.Errorf("%d scripts ran", n)
	}
}
