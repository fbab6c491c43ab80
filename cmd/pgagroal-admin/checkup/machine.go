package checkup

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/scriptrunner"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

const (
	aboutScripts = "scripts"
	aboutState   = "state_dir"
	aboutLimits  = "limits"
)

func (f *findings) machine(c *config.Config) {
	f.scripts(c)
	f.stateDir(c)
	f.openFiles(c)
}

// scripts looks at the scripts. None is executed: that is for pgagroal-cli failover rehearse, which knows the arguments.
func (f *findings) scripts(c *config.Config) {
	uid, gids, err := supervisor.Identity(c)
	if err != nil {
		return
	}
	needed := c.Failover && c.FailoverMode == config.ModeScript
	for _, s := range []struct {
		key, path string
		checked   bool // by the supervisor's checks
	}{
		{"failover_script", c.FailoverScript, needed},
		{"failover_fence_script", c.FailoverFenceScript, needed},
		{"failover_notify_script", c.FailoverNotifyScript, true},
	} {
		switch {
		case s.path == "":
			continue
		case c.ScriptrunnerSocket != "":
			f.add(Note, aboutScripts, s.path, "pgagroal-cli failover rehearse", "%s: the script runner behind %s checks it, as its own user", s.key, c.ScriptrunnerSocket)
			continue
		}
		if err := config.CheckScript(s.path, uid, gids); err != nil {
			if !s.checked {
				f.add(Warning, aboutScripts, s.path, "", "%s: %v", s.key, err)
			}
			continue
		}
		if scriptrunner.Declares(s.path) {
			f.add(OK, aboutScripts, s.path, "", "%s: it can be started, and knows PGAGROAL_CHECK", s.key)
			continue
		}
		f.add(Note, aboutScripts, s.path, "pgagroal-hooks(7) says how a script declares it",
			"%s: it can be started, but doesn't declare that it knows PGAGROAL_CHECK: a rehearsal can't have it look whether it could do its work", s.key)
	}
}

// leastSpace is what state_dir needs for a record and a long history.
const leastSpace = 16 << 20

func (f *findings) stateDir(c *config.Config) {
	dir := supervisor.StateDir(c)
	if dir == "" {
		if !c.Failover {
			f.add(OK, aboutState, "", "", "there is none, and without failover nothing depends on it")
		}
		return // with failover the supervisor's checks say why
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		f.add(Error, aboutState, dir, "", "%v", err)
		return
	}
	free := st.Bavail * uint64(st.Bsize)
	switch {
	case free < leastSpace:
		f.add(Error, aboutState, dir, "make room there, or name another directory", "only %d KiB are free: a failover may not be recorded", free>>10)
	case st.Files > 0 && st.Ffree == 0:
		f.add(Error, aboutState, dir, "delete files there, or name another directory", "the file system has no inode left")
	default:
		f.add(OK, aboutState, dir, "", "%d MiB are free", free>>20)
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil && volatile(target) {
		f.add(Warning, aboutState, dir, "name a directory on a disk", "it lies in memory: a reboot forgets which server is the primary")
	}
}

// volatile says whether a directory is gone after a reboot.
func volatile(dir string) bool {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var st syscall.Statfs_t
	err := syscall.Statfs(dir, &st)
	return err == nil && (int64(st.Type) == tmpfs || int64(st.Type) == ramfs)
}

// openFiles compares clients and connections with the limit of open files. Whether pgagroal itself fits is one of the
// supervisor's checks.
func (f *findings) openFiles(c *config.Config) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		f.add(Note, aboutLimits, "", "", "the limit of open files is unknown: %v", err)
		return
	}
	need := uint64(config.OwnFiles(c) + c.MaxConnections + c.MaxClients)
	text := fmt.Sprintf("max_clients = %d and max_connections = %d may need %d open files, and the limit is %d here", c.MaxClients, c.MaxConnections, need, l.Cur)
	if l.Cur < need {
		f.add(Warning, aboutLimits, "", "raise the limit (LimitNOFILE of the service), or lower max_clients", "%s", text)
		return
	}
	do := ""
	if os.Getppid() != 1 {
		do = "compare LimitNOFILE of the service, which may be another limit"
	}
	f.add(OK, aboutLimits, "", do, "%s", text)
}
