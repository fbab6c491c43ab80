package confine

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	abi "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// parts are the parts of Landlock, each with the first version of Landlock's interface
// that has it.
var parts = []struct {
	version     int
	what, since string
	unix        bool // needed only if the policy has Unix sockets
}{
	{1, "files", "Linux 5.13", false},
	{portsVersion, "TCP ports", "Linux 6.7", false},
	{6, "signals and abstract sockets", "Linux 6.12", false},
	{dirsVersion, "paths of Unix sockets", "version 9 of the interface", true},
}

// The versions that restrict connections.
const (
	portsVersion = 4
	dirsVersion  = 9
)

// restrictFiles lets the process open no file, connect to no TCP port and no
// Unix socket outside the policy, and signal no other process.
func restrictFiles(p Policy, r *Report) error {
	var rules []landlock.Rule
	for _, port := range p.Ports {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	for _, dir := range p.SocketDirs {
		// Only kernels that know this right accept it. A directory that is missing
		// now holds no socket.
		rules = append(rules, landlock.PathAccess(0, dir).WithResolveUnix().IgnoreIfMissing())
	}
	if err := landlock.V11.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("restrict files and connections: %w", err)
	}
	version, err := abi.LandlockGetABIVersion()
	if err != nil {
		version = 0 // go-landlock's value for no Landlock
	}
	r.OnlyPorts, r.OnlyDirs = version >= portsVersion, version >= dirsVersion
	if version > 0 {
		r.InForce = append(r.InForce, fmt.Sprintf("Landlock %d", version))
	}
	for _, part := range parts {
		if version < part.version && (!part.unix || len(p.SocketDirs) > 0) {
			r.Lacking = append(r.Lacking, part.what+" (needs "+part.since+" of Landlock)")
		}
	}
	return nil
}
