package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// ErrRoot is the refusal to run as root.
var ErrRoot = errors.New("pgagroal does not run as root; set user in pgagroal.conf to the account it shall become, or start it as that account")

// Check returns everything that prevents pgagroal from running with this configuration
// here. It resolves the servers' names, because two names of one address would look
// like two servers.
func Check(c *config.Config) []error {
	return check(c, config.CheckEnv{Asked: true, Resolve: resolved, Listen: listen.Check})
}

// Warnings returns what would keep pgagroal from starting now, but may be gone until then: a port that another program
// has. While a pgagroal of this configuration runs, the port is expected to be taken.
func Warnings(c *config.Config) []string {
	if statedir.Served(c.EffectivePIDFile()) {
		return nil
	}
	var warnings []string
	for _, p := range c.Ports() {
		for _, err := range listen.Taken(c.ListenHosts(), p.Port) {
			warnings = append(warnings, fmt.Sprintf("%s: %s: %v; pgagroal can't start before it is free", c.Place(p.Key), p.Key, err))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// StateDir returns the directory that a supervisor with this configuration would use as state_dir, or "".
func StateDir(c *config.Config) string {
	uid, _, err := Identity(c)
	if err != nil {
		return ""
	}
	return statedir.Find(c, statedir.AccountOf(uid, os.Geteuid() != 0))
}

func check(c *config.Config, env config.CheckEnv) []error {
	uid, gids, err := Identity(c)
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("%w; scripts can't be checked without that account", err))
	}
	if err == nil {
		if err := statedir.Check(c, statedir.AccountOf(uid, os.Geteuid() != 0), env.Asked); err != nil {
			errs = append(errs, err)
		}
	}
	if err := checkWorkerUser(c, uid, err == nil); err != nil {
		errs = append(errs, fmt.Errorf("worker_user: %w", err))
	}
	env.UID, env.GIDs, env.NoAccount, env.FileLimit = uid, gids, err != nil, fileLimit()
	return append(errs, c.Check(env)...)
}

// Identity returns the user and groups, the primary one first, that pgagroal has here once it has given up root.
func Identity(c *config.Config) (uint32, []uint32, error) {
	if os.Geteuid() == 0 {
		if c.User == "" {
			return 0, nil, ErrRoot
		}
		cred, err := proc.CredentialOf(c.User)
		if err != nil {
			return 0, nil, err
		}
		if cred.Uid == 0 {
			return 0, nil, ErrRoot
		}
		return cred.Uid, append([]uint32{cred.Gid}, cred.Groups...), nil
	}
	groups, err := os.Getgroups()
	if err != nil {
		return 0, nil, fmt.Errorf("look up our groups: %w", err)
	}
	gids := []uint32{uint32(os.Getegid())}
	for _, g := range groups {
		if !slices.Contains(gids, uint32(g)) {
			gids = append(gids, uint32(g))
		}
	}
	return uint32(os.Geteuid()), gids, nil
}

// giveUpRoot starts what has to remain root, the starter (nil without worker_user), and
// then becomes the configured user.
// console is the program of the console, or nil.
func giveUpRoot(opt Options, console *os.File) (statedir.Account, *proc.Starter, error) {
	c := opt.Config
	starter, err := newStarter(opt, console)
	if err != nil {
		return statedir.Account{}, nil, err
	}
	account, err := becomeUser(c)
	if err != nil {
		starter.Close()
		return statedir.Account{}, nil, err
	}
	return account, starter, nil
}

// becomeUser gives up root for good, or proves that the process already runs as the
// configured user. It returns the account.
func becomeUser(c *config.Config) (statedir.Account, error) {
	uid, gids, err := Identity(c)
	if err != nil {
		return statedir.Account{}, err
	}
	root := os.Geteuid() == 0
	if root {
		if err := statedir.MakeDefault(c, uid, gids[0]); err != nil {
			return statedir.Account{}, err
		}
	}
	if c.User != "" {
		if err := proc.DropTo(c.User); err != nil {
			return statedir.Account{}, err
		}
	}
	return statedir.AccountOf(uid, !root), nil
}

// fileLimit returns the soft limit of open files, 0 if it is unknown. Go's runtime has
// raised it to the hard limit at the start.
func fileLimit() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return l.Cur
}

// resolved looks a name up, within the usual time limit for a server's name.
func resolved(host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
