package process

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestRootWritesNoLogThroughALink: pgagroal's user owns the directory of the log, so a link there may lead to
// anybody's file.
func TestRootWritesNoLogThroughALink(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
		"user": pool.UserOf(t).Username, "log_type": "file", "log_mode": "create",
	}})
	victim := p.Path("victim")
	pool.Must(t, os.WriteFile(victim, []byte("precious"), 0o644)) // root's
	link := p.Path("run/pgagroal.log")
	pool.Must(t, os.Symlink(victim, link))
	p.SetKey("log_path", link)
	cmd := exec.CommandContext(pool.Within(t), pool.Program("pgagroal"), "-D", p.Dir)
	if said := pool.WontStart(t, cmd); !strings.Contains(said, "open the log file") || !strings.Contains(said, "permission denied") {
		t.Errorf("it says %q", said)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the file of root holds %q, %v", b, err)
	}
}

func TestALogOfAStartAsRootBelongsToTheUserThatItBecomes(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"user": pool.UserOf(t).Username, "log_type": "file"}})
	p.SetKey("log_path", p.Path("run/pgagroal.log"))
	p.AsRoot = true
	p.Run()
	p.Connect()
	info, err := os.Stat(p.Path("run/pgagroal.log"))
	pool.Must(t, err)
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != pool.ServingUser(t).Uid || info.Size() == 0 {
		t.Errorf("the log has %d bytes and belongs to %d", info.Size(), uid)
	}
}
