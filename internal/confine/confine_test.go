package confine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

// childVariable makes this test binary a child that carries out an order and prints
// what it was told.
const childVariable = "CONFINE_TEST_CHILD"

// order tells the child what to do.
type order struct {
	Apply  bool // whether to confine itself before the attempts
	Filter bool // by the filter of system calls alone, without Landlock
	Policy Policy
	Port   int  // a port with a listener
	Log    bool // whether to write a line of the log after that
	// Daemon is a datagram socket to which the socket of the log is directed, if not empty.
	Daemon string
}

// told is the child's answer: the report, and the error number of each attempt.
type told struct {
	Report Report
	Result map[string]int
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	var out told
	var err error
	attempts := prepare(o.Port)
	var write func() int
	if o.Log {
		if write, err = prepareLog(); err != nil {
			return err
		}
	}
	log, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if o.Apply {
		if out.Report, err = Apply(o.Policy); err != nil {
			return err
		}
	}
	if o.Filter {
		if err = filterCalls(o.Policy, &out.Report); err != nil {
			return err
		}
	}
	out.Result = attempts()
	if o.Log {
		out.Result["lines"] = write()
	}
	if o.Daemon != "" {
		to := &unix.SockaddrUnix{Name: o.Daemon}
		out.Result["another daemon"] = number(unix.Sendto(log, []byte("x"), 0, to))
		out.Result["for good"] = number(unix.Connect(log, to))
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// prepare starts a thread before Apply. The result makes every attempt in it.
func prepare(port int) (attempts func() map[string]int) {
	ready, begin, got := make(chan bool), make(chan bool), make(chan map[string]int)
	go func() {
		runtime.LockOSThread()
		ready <- true
		<-begin
		r := map[string]int{}
		for name, a := range table {
			_, _, e := unix.Syscall6(a.call, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
			r[name] = int(e)
		}
		r["connect"] = connect(port)
		r["threads and timers"] = work()
		got <- r
	}()
	<-ready
	return func() map[string]int {
		begin <- true
		return <-got
	}
}

func connect(port int) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return number(err)
	}
	defer unix.Close(fd)
	return number(unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
}

// number returns the error number of a system call, 0 for success.
func number(err error) int {
	if err == nil {
		return 0
	}
	return int(err.(unix.Errno))
}

// work makes the Go runtime start threads, collect garbage and preempt goroutines.
func work() int {
	done := make(chan int)
	for range 8 {
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			var keep [][]byte
			for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
				keep = append(keep[:len(keep)%64], make([]byte, 1<<16))
			}
			runtime.GC()
			done <- len(keep)
		}()
	}
	for range 8 {
		<-done
	}
	return 0
}

// prepareLog makes a log like that of a worker. write writes a line, and returns how many
// arrived.
func prepareLog() (write func() int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	q := logline.NewQueue(io.Discard)
	log := logline.New(q, "", slog.LevelInfo, "p")
	logline.Follow(log, logline.Settings{Kind: logline.Syslog, Level: slog.LevelInfo}, fds[1:])
	return func() (arrived int) {
		log.Info("a line")
		q.Close(time.Minute)
		for b := make([]byte, 100); ; arrived++ {
			if _, err := unix.Read(fds[0], b); err != nil {
				return arrived
			}
		}
	}, nil
}

type attempt struct {
	call uintptr
	args [6]uintptr
	// want is the error in a confined process: EPERM from the filter, 0 for success.
	want unix.Errno
}

// Memory for attempts: table has only its address, which keeps nothing from being freed.
var (
	root  = []byte("/\x00")
	space = make([]byte, 256)
)

func pointer(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

const none = ^uintptr(0) // no descriptor

// table has attempts for the rules of the list, and for calls that must not be in it.
var table = map[string]attempt{
	"open":                {unix.SYS_OPENAT, [6]uintptr{none, pointer(root), unix.O_PATH}, unix.EPERM},
	"stat":                {unix.SYS_NEWFSTATAT, [6]uintptr{none, pointer(root), pointer(space)}, unix.EPERM},
	"kill":                {unix.SYS_KILL, [6]uintptr{uintptr(os.Getppid()), 0}, unix.EPERM},
	"tgkill of another":   {unix.SYS_TGKILL, [6]uintptr{uintptr(os.Getppid()), uintptr(os.Getppid()), 0}, unix.EPERM},
	"tgkill of itself":    {unix.SYS_TGKILL, [6]uintptr{uintptr(os.Getpid()), uintptr(os.Getpid()), 0}, 0},
	"pidfd_open":          {unix.SYS_PIDFD_OPEN, [6]uintptr{uintptr(os.Getppid())}, unix.EPERM},
	"prlimit":             {unix.SYS_PRLIMIT64, [6]uintptr{0, unix.RLIMIT_CORE}, unix.EPERM},
	"fork":                {unix.SYS_CLONE, [6]uintptr{unix.CLONE_PIDFD}, unix.EPERM}, // without an address for the pidfd: EFAULT
	"clone3":              {unix.SYS_CLONE3, [6]uintptr{0, 0}, unix.ENOSYS},
	"executable memory":   {unix.SYS_MMAP, [6]uintptr{0, 4096, unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, none}, unix.EPERM},
	"memory":              {unix.SYS_MMAP, [6]uintptr{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, none}, 0},
	"mprotect":            {unix.SYS_MPROTECT, [6]uintptr{0, 0, unix.PROT_EXEC}, unix.EPERM},
	"dumpable":            {unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_DUMPABLE, 1}, unix.EPERM},
	"timer slack":         {unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_TIMERSLACK, 1}, 0},
	"fcntl owner":         {unix.SYS_FCNTL, [6]uintptr{1, unix.F_SETOWN, 0}, unix.EPERM},
	"fcntl flags":         {unix.SYS_FCNTL, [6]uintptr{1, unix.F_GETFD}, 0},
	"wait":                {unix.SYS_PPOLL, [6]uintptr{0, 0, 1}, unix.EFAULT},
	"stat of its own":     {unix.SYS_FSTAT, [6]uintptr{none}, unix.EBADF},
	"other stderr":        {unix.SYS_DUP3, [6]uintptr{none, uintptr(unix.Stderr), 0}, unix.EBADF},
	"other stdout":        {unix.SYS_DUP3, [6]uintptr{none, uintptr(unix.Stdout), 0}, unix.EPERM},
	"UDP":                 {unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_DGRAM, 0}, unix.EPERM},
	"MPTCP":               {unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, unix.EPERM},
	"Unix stream":         {unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0}, unix.EPERM},
	"Unix packets":        {unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0}, unix.EPERM},
	"socketpair":          {unix.SYS_SOCKETPAIR, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, pointer(space)}, unix.EPERM},
	"netlink":             {unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, 0}, unix.EPERM},
	"bind":                {unix.SYS_BIND, [6]uintptr{none}, unix.EPERM},
	"listen":              {unix.SYS_LISTEN, [6]uintptr{none}, unix.EPERM},
	"accept":              {unix.SYS_ACCEPT4, [6]uintptr{none}, unix.EPERM},
	"fast open":           {unix.SYS_SENDTO, [6]uintptr{none, 0, 0, unix.MSG_FASTOPEN}, unix.EPERM},
	"send":                {unix.SYS_SENDTO, [6]uintptr{none, 0, 0, unix.MSG_NOSIGNAL}, unix.EBADF},
	"sendmsg":             {unix.SYS_SENDMSG, [6]uintptr{none, 0, unix.MSG_FASTOPEN}, unix.EPERM},
	"sendmmsg":            {unix.SYS_SENDMMSG, [6]uintptr{none}, unix.EPERM},
	"new ring":            {unix.SYS_IO_URING_SETUP, [6]uintptr{0, 0}, unix.EPERM},
	"ring":                {unix.SYS_IO_URING_ENTER, [6]uintptr{none}, unix.EPERM},
	"ring enable":         {unix.SYS_IO_URING_REGISTER, [6]uintptr{none, ringEnable}, unix.EPERM},
	"ring buffers":        {unix.SYS_IO_URING_REGISTER, [6]uintptr{none, 0}, unix.EPERM},
	"network of a thread": {unix.SYS_CLONE, [6]uintptr{unix.CLONE_THREAD | unix.CLONE_NEWNET}, unix.EPERM}, // without signal handlers: EINVAL
	"nice":                {unix.SYS_SETPRIORITY, [6]uintptr{0, 0, 19}, unix.EPERM},
	"user":                {unix.SYS_SETUID, [6]uintptr{uintptr(os.Getuid())}, unix.EPERM},
	"ptrace":              {unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, none}, unix.EPERM},
	"memory of others":    {unix.SYS_PROCESS_VM_READV, [6]uintptr{uintptr(os.Getppid())}, unix.EPERM},
	"unshare":             {unix.SYS_UNSHARE, [6]uintptr{0}, unix.EPERM},
	"x32":                 {x32 | unix.SYS_GETPID, [6]uintptr{}, unix.ENOSYS},
}

func start(t *testing.T, o order) told {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got told
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return got
}

func listener(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestAConfinedProcessDoesWhatIsOnTheListAndNothingElse(t *testing.T) {
	port := listener(t)
	free := start(t, order{Port: port})
	held := start(t, order{Apply: true, Policy: Policy{Ports: []uint16{uint16(port)}}, Port: port})
	if slices.ContainsFunc(held.Report.Lacking, func(s string) bool { return strings.HasPrefix(s, "system calls") }) {
		t.Skip("no seccomp here:", held.Report.Lacking)
	}
	for name, a := range table {
		if got := unix.Errno(held.Result[name]); got != a.want {
			t.Errorf("%s: %v, want %v", name, got, a.want)
		}
		// A call that fails with EPERM even without the filter would prove nothing.
		if a.want == unix.EPERM && unix.Errno(free.Result[name]) == unix.EPERM && name != "ptrace" {
			t.Errorf("%s: EPERM even for a process that isn't confined", name)
		}
	}
	for _, name := range []string{"connect", "threads and timers"} {
		if held.Result[name] != 0 {
			t.Errorf("%s: %v", name, unix.Errno(held.Result[name]))
		}
	}
}

func TestAConfinedProcessWritesItsLog(t *testing.T) {
	got := start(t, order{Apply: true, Log: true})
	if n := got.Result["lines"]; n != 1 {
		t.Errorf("of one line %d arrived", n)
	}
}

// Not every kernel has a Landlock that knows signals.
func TestTheFilterRefusesWithoutLandlock(t *testing.T) {
	held := start(t, order{Filter: true, Port: listener(t)})
	if len(held.Report.Lacking) > 0 {
		t.Skip("no seccomp here:", held.Report.Lacking)
	}
	for name, a := range table {
		if got := unix.Errno(held.Result[name]); got != a.want {
			t.Errorf("%s: %v, want %v", name, got, a.want)
		}
	}
}

func TestOnlyThePortsOfThePolicyCanBeReached(t *testing.T) {
	port, other := listener(t), listener(t)
	if got := start(t, order{Port: other}); got.Result["connect"] != 0 {
		t.Fatal("without confinement the connection fails too:", unix.Errno(got.Result["connect"]))
	}
	got := start(t, order{Apply: true, Policy: Policy{Ports: []uint16{uint16(port)}}, Port: other})
	if slices.ContainsFunc(got.Report.Lacking, func(s string) bool { return strings.HasPrefix(s, "TCP") }) {
		t.Skip("this kernel's Landlock knows no ports:", got.Report.Lacking)
	}
	if e := unix.Errno(got.Result["connect"]); e != unix.EACCES {
		t.Errorf("connect to another port: %v, want EACCES", e)
	}
}

func TestAPolicyAddsWhatItNames(t *testing.T) {
	got := start(t, order{Apply: true, Policy: Policy{SocketDirs: []string{"/tmp"}, Ring: true}})
	if slices.ContainsFunc(got.Report.Lacking, func(s string) bool { return strings.HasPrefix(s, "system calls") }) {
		t.Skip("no seccomp here:", got.Report.Lacking)
	}
	for name, want := range map[string]unix.Errno{
		"Unix stream": 0, "Unix packets": unix.EPERM, "ring": unix.EBADF, "new ring": unix.EPERM,
		"ring enable": unix.EINVAL, "ring buffers": unix.EPERM, "connect": unix.EPERM,
	} {
		if e := unix.Errno(got.Result[name]); e != want {
			t.Errorf("%s: %v, want %v", name, e, want)
		}
	}
}

func TestAnotherArchitectureIsKilled(t *testing.T) {
	if calls := allowed(Policy{}); calls == nil {
		t.Skip("no list for this architecture")
	} else if p := assemble(calls); p[1].K != auditArch || p[2].K != unix.SECCOMP_RET_KILL_PROCESS || p[1].Jf != 0 {
		t.Errorf("the filter begins with %+v", p[:3])
	}
}

// A socket that was accepted could be connected to somewhere else.
func TestOnlyWhoHasServersMayConnect(t *testing.T) {
	connects := func(p Policy) bool {
		return slices.ContainsFunc(allowed(p), func(c call) bool { return c.number == unix.SYS_CONNECT }) || slices.Contains(always, unix.SYS_CONNECT)
	}
	if allowed(Policy{}) == nil {
		t.Skip("no list for this architecture")
	}
	for _, tt := range []struct {
		policy Policy
		want   bool
	}{{Policy{Accept: true}, false}, {Policy{Ports: []uint16{1}}, true}, {Policy{SocketDirs: []string{"/x"}}, true}} {
		if got := connects(tt.policy); got != tt.want {
			t.Errorf("%+v may connect: %v", tt.policy, got)
		}
	}
}

// pgagroal-privsep(7) says so: the kernel asks nobody where a datagram goes, before version 9 of Landlock.
func TestTheSocketOfALogReachesOtherDaemons(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon")
	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	for _, c := range []struct {
		policy         Policy
		send, directed unix.Errno
	}{{Policy{Ports: []uint16{1}}, 0, 0}, {Policy{Accept: true}, 0, unix.EPERM}} {
		got := start(t, order{Apply: true, Policy: c.policy, Daemon: path})
		if version(got.Report) >= 9 {
			c.send, c.directed = unix.EACCES, cmp.Or(c.directed, unix.EACCES)
		}
		if allowed(c.policy) == nil {
			c.directed = c.send // there is no filter for this architecture
		}
		if e := unix.Errno(got.Result["another daemon"]); e != c.send {
			t.Errorf("%+v: send to another daemon: %v, want %v", c.policy, e, c.send)
		}
		if e := unix.Errno(got.Result["for good"]); e != c.directed {
			t.Errorf("%+v: connect to another daemon: %v, want %v", c.policy, e, c.directed)
		}
	}
}

// version returns that of the Landlock in force, 0 for none.
func version(r Report) (v int) {
	for _, s := range r.InForce {
		if n, ok := strings.CutPrefix(s, "Landlock "); ok {
			v, _ = strconv.Atoi(n)
		}
	}
	return v
}
