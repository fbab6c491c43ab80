package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long down waits for an orderly end.
const stopLimit = 20 * time.Second

// keptDir is the directory of up and down.
func keptDir() string {
	dir := os.Getenv("DEMO_DIR")
	if dir == "" {
		dir = "demo-data"
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	return abs
}

// up starts "demo serve" as a process of its own, returns when it serves, and
// prints how to play with it.
func up(ctx context.Context, o options, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return fmt.Errorf("%s exists already; make demo-down stops and removes it", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "demo.log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", "-pipeline", o.pipeline, "serve")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	text, err := io.ReadAll(r) // up to the end: serve has closed the pipe, or has ended
	if err == nil && len(text) > 0 {
		fmt.Printf("%s", text)
		return nil
	}
	_ = cmd.Wait()
	why, _ := os.ReadFile(log.Name())
	return errors.Join(fmt.Errorf("it does not start:\n%s", why), down(dir))
}

// serve runs until SIGTERM; descriptor 3 is where up waits for the help text.
func serve(ctx context.Context, o options, dir string) error {
	syscall.CloseOnExec(3) // otherwise the servers keep it open, and up waits for them
	lock, err := os.OpenFile(filepath.Join(dir, "demo.pid"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make pid file: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock pid file: %w", err)
	}
	if _, err := fmt.Fprintln(lock, os.Getpid()); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	o.kept = true
	s := newStage(dir, o)
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	ready := os.NewFile(3, "ready")
	_, err = io.WriteString(ready, s.help())
	if err = errors.Join(err, ready.Close()); err == nil {
		select {
		case <-ctx.Done():
		case <-s.ended:
			err = errors.New("pgagroal has ended, see pgagroal.log")
			<-ctx.Done() // the servers run until down
		}
	}
	return errors.Join(err, s.close())
}

// help lists commands to try.
func (s *stage) help() string {
	conf := s.path("pgagroal.conf")
	cli := filepath.Join(s.bin, "pgagroal-cli") + " -c " + conf
	lines := []string{
		"", "Through pgagroal:", "  psql -h 127.0.0.1 -p " + strconv.Itoa(s.port) + " -U app app",
		"", "Ask pgagroal:", "  " + cli + " status", "  " + cli + " failover status", "  " + cli + " failover history",
		"  tail -f " + s.path("pgagroal.log"),
		"", "Kill the primary:", "  pid=$(head -n 1 " + filepath.Join(s.cluster.Primary().DataDir, "postmaster.pid") + "); kill -9 $pid $(pgrep -P $pid)",
		"  (if you kill only $pid, the failover takes 10 s longer, failover_restart_grace: its children announce a shutdown, which may be a restart)",
		"", "End it:", "  make demo-down", "",
	}
	return s.intro() + strings.Join(lines, "\n")
}

// down ends every process that up has started, even if serve was killed, and removes
// the directory.
func down(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, "demo.pid"), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "demo.log")); err == nil {
			return os.RemoveAll(dir) // serve ended before it created the pid file
		}
		fmt.Println("there is no demo in", dir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the demo: %w", err)
	}
	defer lock.Close()
	free := func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if free() != nil { // the lock is held, so the pid is that of serve
		line, err := bufio.NewReader(lock).ReadString('\n')
		pid, numErr := strconv.Atoi(strings.TrimSpace(line))
		if err := errors.Join(err, numErr); err != nil {
			return fmt.Errorf("read pid file: %w", err)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop the demo: %w", err)
		}
		if err := until(ctx, "the end of the demo", free); err != nil {
			return err
		}
	}
	if err := until(ctx, "the end of all processes in "+dir, func() error { return endAll(dir) }); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// endAll ends the processes that work in dir, which only a demo that was killed
// leaves behind, and returns an error as long as there are any.
func endAll(dir string) error {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // fails only for a malformed pattern
	left := 0
	for _, link := range links {
		cwd, err := os.Readlink(link)
		pid, numErr := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil || numErr != nil || pid == os.Getpid() || cwd != dir && !strings.HasPrefix(cwd, dir+"/pg/") {
			continue
		}
		left++
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
	if left > 0 {
		return fmt.Errorf("%d processes are left", left)
	}
	return nil
}
