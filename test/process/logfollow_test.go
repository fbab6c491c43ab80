package process

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// lineOfLog is a line of a log file as the default log_line_prefix has it.
var lineOfLog = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (TRACE|DEBUG|INFO |WARN |ERROR|FATAL) [a-z]+( \d)?\[\d+\] .`)

// TestEveryProcessFollowsTheLogFile: whoever renames the file, in whatever way pgagroal learns of it, all its processes
// go on in the new one, and no line is lost or written twice.
func TestEveryProcessFollowsTheLogFile(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: pool.FailoverKeys(map[string]string{
		"log_type": "file", "log_level": "info", "metrics": fmt.Sprint(pgtest.Port(t)),
	})})
	logs := followed{p, p.Path("run/pgagroal.log")}
	p.SetKey("log_path", logs.path)
	p.SetKey("failover_script", p.Hook("failover", "exit 1").Path)
	p.Run()
	pgtest.WaitUntil(t, pool.Generous, "all children", func() bool { return len(logs.processes()) == 6 }, func() string { return logs.all() })
	children := fmt.Sprint(logs.processes())

	connected, stop := logs.connectAllTheTime()
	for i, tell := range []func(){
		func() { logs.signal(syscall.SIGUSR1) }, func() { logs.signal(syscall.SIGHUP) }, func() {},
		func() { p.JSON("conf", "reload") }, func() { logs.signal(syscall.SIGUSR1) },
	} {
		pool.Must(t, os.Rename(logs.path, fmt.Sprintf("%s-%d", logs.path, i)))
		tell()
		logs.waitFollowed()
	}
	if got := fmt.Sprint(logs.processes()); got != children {
		t.Errorf("the processes were %s, and are %s", children, got)
	}
	logs.rotatesBySize()
	stop()
	p.DropKey("log_type")
	p.SetKey("log_type", "console")
	p.JSON("conf", "reload")
	p.WaitLog("configuration is reloaded") // now on standard error
	p.Stop()
	logs.check(connected())
}

// followed is a pool that logs to a file.
type followed struct {
	*pool.Pool
	path string
}

func (f followed) processes() []int {
	ids := append([]int{f.PID()}, f.Workers()...)
	for _, id := range []int{f.Prober(), f.Console(), f.Runner()} {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

func (f followed) signal(sig syscall.Signal) { pool.Must(f.T, f.Cmd.Process.Signal(sig)) }

// waitFollowed waits until all processes have the file of this name open, as standard error as well, and no other file
// of the log.
func (f followed) waitFollowed() {
	f.T.Helper()
	pgtest.WaitUntil(f.T, pool.Generous, "all processes to go on in the new file", func() bool {
		is, err := os.Stat(f.path)
		if err != nil {
			return false
		}
		for _, pid := range f.processes() {
			last, err := os.Stat(fmt.Sprintf("/proc/%d/fd/2", pid))
			if err != nil || !os.SameFile(is, last) || f.holdsOld(pid, is) {
				return false
			}
		}
		return true
	}, f.all)
}

// holdsOld reports whether a process has an old file of the log open.
func (f followed) holdsOld(pid int, is os.FileInfo) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		name, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(name, f.path) {
			continue
		}
		if open, err := os.Stat(fd); err == nil && !os.SameFile(is, open) {
			return true
		}
	}
	return false
}

// connectAllTheTime connects and disconnects until stop; connected then says how often.
func (f followed) connectAllTheTime() (connected func() int, stop func()) {
	var n int
	var wg sync.WaitGroup
	end := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			cl, err := f.Try(f.Config("postgres", "", "postgres"))
			if err != nil {
				f.T.Errorf("connect: %v", err)
				return
			}
			cl.Close()
			n++
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { close(end); wg.Wait() }) }
	f.T.Cleanup(stop)
	return func() int { return n }, stop
}

// rotatesBySize puts log_rotation_size in effect, and waits until some files were renamed.
func (f followed) rotatesBySize() {
	f.T.Helper()
	f.SetKey("log_rotation_size", "1K")
	f.JSON("conf", "reload")
	pgtest.WaitUntil(f.T, pool.Generous, "three files that were rotated", func() bool {
		rotated, err := filepath.Glob(f.path + ".*")
		pool.Must(f.T, err)
		return len(rotated) >= 3
	}, f.all)
	f.DropKey("log_rotation_size")
	f.JSON("conf", "reload")
	f.waitFollowed()
}

// check looks at all files together: whole lines, and one of each kind for each client.
func (f followed) check(clients int) {
	f.T.Helper()
	ends := map[string]int{}
	for _, line := range strings.Split(strings.TrimSuffix(f.all()+f.Log(), "\n"), "\n") {
		if !lineOfLog.MatchString(line) && !strings.HasPrefix(line, "pgagroal: warning:") {
			f.T.Errorf("a line is %q", line)
		}
		if strings.Contains(line, "lines of the log are lost") {
			f.T.Error(line)
		}
		for _, what := range []string{"connection received", "connection authorized", "disconnection"} {
			if strings.Contains(line, "] "+what+" ") {
				ends[what]++
			}
		}
	}
	for _, what := range []string{"connection received", "connection authorized", "disconnection"} {
		if ends[what] != clients || clients < 10 {
			f.T.Errorf("%d lines %q for %d clients", ends[what], what, clients)
		}
	}
}

// all returns what is in all files of the log.
func (f followed) all() string {
	var b strings.Builder
	files, _ := filepath.Glob(f.path + "*")
	for _, name := range files {
		text, err := os.ReadFile(name)
		pool.Must(f.T, err)
		b.Write(text)
	}
	return b.String()
}
