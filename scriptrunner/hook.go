package scriptrunner

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// The hooks that a run can name.
const (
	hookFailover = "failover"
	hookNotify   = "notify"
	hookFence    = "fence"
)

// hooks is the configuration of the scripts; without a configuration there are none.
type hooks struct{ c *config.Config }

// hook is one script.
type hook struct {
	name    string
	path    string
	timeout time.Duration
}

func loadHooks(path string) (hooks, error) {
	c, err := config.LoadMain(path)
	if err != nil {
		return hooks{}, fmt.Errorf("read hooks: %w", err)
	}
	h := hooks{c}
	return h, h.rootRefused()
}

// stateDir returns the directory for a runner that is a service. A runner that the
// supervisor has started uses the directory of the lock.
func (h hooks) stateDir() string { return cmp.Or(h.c.StateDir, config.DefaultStateDir) }

// supervisorUID returns the user that pgagroal becomes.
func (h hooks) supervisorUID() (uint32, bool) {
	if h.c == nil || h.c.User == "" {
		return 0, false
	}
	u, err := user.Lookup(h.c.User)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(uid), err == nil
}

// errRoot is the refusal to run scripts as root.
var errRoot = errors.New("scripts don't run as root")

// rootRefused returns an error if scripts would run as root although the configuration
// names another user for pgagroal.
func (h hooks) rootRefused() error {
	if os.Getuid() != 0 || h.c.User == "" {
		return nil
	}
	if uid, ok := h.supervisorUID(); ok && uid == 0 {
		return nil
	}
	return fmt.Errorf("%w, and user = %s is configured; start the runner as that user, or as another one that isn't root", errRoot, h.c.User)
}

func (h hooks) digest() string {
	if h.c == nil {
		return ""
	}
	return h.c.HooksDigest()
}

// configured returns the hooks that have a script.
func (h hooks) configured() []hook {
	if h.c == nil {
		return nil
	}
	var out []hook
	for _, k := range []hook{
		{hookFailover, h.c.FailoverScript, h.c.FailoverScriptTimeout},
		{hookNotify, h.c.FailoverNotifyScript, h.c.FailoverNotifyTimeout},
		{hookFence, h.c.FailoverFenceScript, h.c.FailoverScriptTimeout},
	} {
		if k.path != "" {
			out = append(out, k)
		}
	}
	return out
}

// check returns for each hook what prevents it from running.
func (h hooks) check() []ipc.HookCheck {
	var out []ipc.HookCheck
	for _, k := range h.configured() {
		c := ipc.HookCheck{Hook: k.name}
		if err := k.runnable(); err != nil {
			c.Problem = err.Error()
		} else {
			c.KnowsCheck = k.knowsCheck()
		}
		out = append(out, c)
	}
	return out
}

// runnable checks the script by its path. The kernel looks the path up again when it
// executes the script. Meanwhile only root and this user can replace the script,
// because runnable requires that of the file and its directory.
func (k hook) runnable() error {
	groups, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("check script: %w", err)
	}
	gids := []uint32{uint32(os.Getgid())}
	for _, g := range groups {
		gids = append(gids, uint32(g))
	}
	return config.CheckScript(k.path, uint32(os.Getuid()), gids)
}

// find returns the hook that a run names, or why it must not run.
func (h hooks) find(m *ipc.Run) (hook, error) {
	if h.c == nil {
		return hook{}, errors.New("there is no configuration yet")
	}
	for _, k := range h.configured() {
		if k.name != m.Hook {
			continue
		}
		if err := h.checkArgs(m.Hook, m.Args); err != nil {
			return hook{}, err
		}
		return k, k.runnable()
	}
	return hook{}, fmt.Errorf("there is no hook %q in the configuration", m.Hook)
}

// checkArgs checks the arguments against the contract of the hook: pairs of host and
// port of different configured servers.
func (h hooks) checkArgs(name string, args []string) error {
	n := len(args)
	ok := map[string]bool{hookFailover: n == 4, hookNotify: n >= 4 && n%2 == 0, hookFence: n == 2}[name]
	if !ok {
		return fmt.Errorf("%d arguments are not what hook %s takes", n, name)
	}
	type address struct{ host, port string }
	servers := map[address]bool{}
	for _, s := range h.c.Servers {
		servers[address{s.Host, strconv.Itoa(s.Port)}] = true
	}
	seen := map[address]bool{}
	for i := 0; i < n; i += 2 {
		a := address{args[i], args[i+1]}
		switch {
		case !servers[a]:
			return fmt.Errorf("arguments %d and %d, %q and %q, are no configured server", i+1, i+2, a.host, a.port)
		case seen[a]:
			return fmt.Errorf("arguments %d and %d, %q and %q, name a server again", i+1, i+2, a.host, a.port)
		}
		seen[a] = true
	}
	return nil
}

var (
	runIDForm    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	variableForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
)

// runVariable passes the run id to the script and everything that the script starts.
const runVariable = variablePrefix + "RUN_ID"

// checkVariable is 1 in the environment of a check, and absent in that of a run.
const checkVariable = variablePrefix + "CHECK"

const variablePrefix = "PGAGROAL_"

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultLang = "C.UTF-8"
)

// environment returns the whole environment of the script. Of this process's own variables
// it has PATH and LANG alone.
func environment(m *ipc.Run) ([]string, error) {
	home, name := "/", strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		home, name = u.HomeDir, u.Username
	}
	env := []string{
		"PATH=" + orElse(os.Getenv("PATH"), defaultPath), "LANG=" + orElse(os.Getenv("LANG"), defaultLang),
		"HOME=" + home, "USER=" + name, runVariable + "=" + m.RunID,
	}
	for k, v := range m.Env {
		if !variableForm.MatchString(k) || strings.ContainsRune(v, 0) {
			return nil, fmt.Errorf("%q is no variable for a script", k)
		}
		if k := variablePrefix + k; k != runVariable && k != checkVariable {
			env = append(env, k+"="+v)
		}
	}
	return env, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
