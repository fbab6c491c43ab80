package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// templates holds the data directories that initdb has made for this process,
// because initdb costs more than all the rest of a start. It is the one variable
// of the package that changes: a cache, by program directory and superuser, whose
// only writer holds the lock.
var templates = struct {
	sync.Mutex
	made map[templateKey]template
}{made: map[templateKey]template{}}

type templateKey struct{ bin, superUser string }

// template is one directory, with the guard that removes it when the process ends. It
// must keep the guard: without a reference the garbage collector would close the
// guard's pipe, which the guard takes for the end of this process.
type template struct {
	dir   string
	guard *guard
}

// template returns a data directory to copy from.
func (h *host) template(ctx context.Context, superUser string) (string, error) {
	templates.Lock()
	defer templates.Unlock()
	key := templateKey{h.bin, superUser}
	if made, ok := templates.made[key]; ok {
		return made.dir, nil
	}
	base, err := h.tempDir("pgtest-template")
	if err != nil {
		return "", err
	}
	g, err := startGuard(base, true)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "data")
	if err := h.initdb(ctx, dir, superUser); err != nil {
		return "", errors.Join(err, g.release(), os.RemoveAll(base))
	}
	templates.made[key] = template{dir: dir, guard: g}
	return dir, nil
}

// tempDir makes a private directory with a short name that no symbolic link is
// part of: a socket's path may have 107 bytes, and /proc shows the real path.
func (h *host) tempDir(prefix string) (string, error) {
	dir, err := os.MkdirTemp(tempParent(), prefix)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	if err := h.own(dir); err != nil {
		return "", fmt.Errorf("give directory to the server's user: %w", err)
	}
	return filepath.EvalSymlinks(dir)
}

// tempParent prefers memory to a busy disk, on which a start may take ten times as
// long. TMPDIR overrides it.
func tempParent() string {
	const shm, roomy = "/dev/shm", 2 << 30 // bytes; containers often have 64 MiB
	var fs syscall.Statfs_t
	err := syscall.Statfs(shm, &fs)
	if os.Getenv("TMPDIR") != "" || err != nil || fs.Bavail*uint64(fs.Bsize) < roomy {
		return os.TempDir()
	}
	return shm
}

func (h *host) initdb(ctx context.Context, dir, superUser string) error {
	err := h.run(ctx, filepath.Dir(dir), "initdb", "-D", dir, "-U", superUser, "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if err != nil {
		return err
	}
	// Every node reads its own settings from beside its data directory. The line
	// is the same in all of them, so pg_rewind and pg_basebackup, which copy the
	// configuration, leave a node its port and its name.
	conf, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = conf.WriteString("\ninclude '../" + nodeConf + "'\n")
	if closeErr := conf.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}
