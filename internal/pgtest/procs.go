package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// processesIn returns the ids of the living processes whose working directory is dir or
// inside it. Every PostgreSQL process works in its data directory all its life, even if
// its parent has died or pg_ctl has started it, and a zombie has no working directory.
// So this also finds processes that a search by parent would miss.
func processesIn(dir string) []int {
	entries, _ := os.ReadDir("/proc") // without /proc Start fails
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && worksIn(pid, dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func worksIn(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && (cwd == dir || strings.HasPrefix(cwd, dir+"/"))
}

// ended reports whether pid is gone or a zombie, which holds no file, lock or socket.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The name, in parentheses, can hold anything; the state follows it.
	after := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(after) > 0 && (after[0] == 'Z' || after[0] == 'X')
}

// freeze stops every process of dir, including those started meanwhile, and returns
// them. It ends, because a stopped process starts no children.
func freeze(dir string) []int {
	var frozen []int
	for {
		grown := false
		for _, pid := range processesIn(dir) {
			if !slices.Contains(frozen, pid) {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				frozen, grown = append(frozen, pid), true
			}
		}
		if !grown {
			return frozen
		}
	}
}

// killAll kills every process of dir like the death of the host: it first stops all of
// them, so that none sees another one die and reacts.
func killAll(dir string) []int {
	pids := freeze(dir)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return pids
}

// lockFile is the content of postmaster.pid.
type lockFile struct {
	pid   int
	shmID int // of the System V segment that guards the data directory; -1: none
}

func readLockFile(dataDir string) (lockFile, error) {
	data, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return lockFile{}, err
	}
	lines := strings.Split(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return lockFile{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	lock := lockFile{pid: pid, shmID: -1}
	if len(lines) > 6 {
		if fields := strings.Fields(lines[6]); len(fields) == 2 {
			if id, err := strconv.Atoi(fields[1]); err == nil {
				lock.shmID = id
			}
		}
	}
	return lock, nil
}

// removeLocks removes what a killed postmaster has left: the lock files, and the shared
// memory segment, which the death of a host would remove, too. Otherwise a restart
// would think that the postmaster is alive if its process id belongs to a zombie or
// another process by now. It must not be called while the postmaster lives.
func removeLocks(dataDir, socketDir string) error {
	lock, err := readLockFile(dataDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && lock.shmID >= 0 {
		// Nobody is attached any more; a segment that is gone is fine.
		_, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, uintptr(lock.shmID), ipcRemove, 0)
	}
	stale, _ := filepath.Glob(filepath.Join(socketDir, ".s.PGSQL.*"))
	for _, path := range append(stale, filepath.Join(dataDir, "postmaster.pid")) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove stale lock: %w", err)
		}
	}
	return nil
}

// ipcRemove is IPC_RMID of linux/ipc.h.
const ipcRemove = 0
