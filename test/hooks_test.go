package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Hook is a script that notes how it was called and then does what Body says.
type Hook struct {
	t    testing.TB
	Path string
	log  string
}

// hook writes a script that appends its arguments, one run a line and in
// brackets each, to a file, and then runs body.
func (p *Pool) hook(name, body string) *Hook {
	p.t.Helper()
	h := &Hook{t: p.t, Path: filepath.Join(p.Dir, "hooks", name), log: filepath.Join(p.Dir, "hooks", name+".runs")}
	script := fmt.Sprintf("#!/bin/sh\nline=\"\"\nfor a in \"$@\"; do line=\"$line[$a]\"; done\necho \"$line\" >> %s\n%s\n", h.log, body)
	writeFile(p.t, h.Path, script, 0o755)
	return h
}

// Runs returns the arguments of each run so far.
func (h *Hook) Runs() [][]string {
	h.t.Helper()
	data, err := os.ReadFile(h.log)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		line, whole := strings.CutSuffix(line, "]\n")
		if !whole {
			break // the shell has made the file, and writes to it next
		}
		out = append(out, strings.Split(strings.TrimPrefix(line, "["), "]["))
	}
	return out
}

// WaitRuns waits until the hook was started n times.
func (h *Hook) WaitRuns(n int) [][]string {
	h.t.Helper()
	pgtest.WaitUntil(h.t, generous, fmt.Sprintf("%d runs of %s", n, filepath.Base(h.Path)), func() bool { return len(h.Runs()) >= n })
	return h.Runs()
}

// promote is the body of a hook that promotes whichever node listens on the port
// in its third argument's place.
func promote(c *pgtest.Cluster) string {
	var b strings.Builder
	b.WriteString("case $4 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) data=%s ;;\n", n.Port, n.DataDir)
	}
	b.WriteString("*) exit 9 ;;\nesac\n")
	fmt.Fprintf(&b, "exec %s promote -w -s -D \"$data\"\n", pgtest.Binary("pg_ctl"))
	return b.String()
}

// args are the arguments that a failover from one node to another gives.
func args(ns ...*pgtest.Node) []string {
	var out []string
	for _, n := range ns {
		out = append(out, n.Host, fmt.Sprint(n.Port))
	}
	return out
}

// failoverKeys are the keys of a pool that fails over quickly.
func failoverKeys(more map[string]string) map[string]string {
	keys := map[string]string{"failover": "on", "failover_restart_grace": "2s", "health_check_user": "postgres"}
	for k, v := range more {
		keys[k] = v
	}
	return keys
}

// StartFailover starts a pool in front of a cluster with a promoting hook and a
// notify hook that both note their runs; keys may replace any key.
func StartFailover(t testing.TB, c *pgtest.Cluster, keys map[string]string) (p *Pool, failover, notify *Hook) {
	t.Helper()
	p = Prepare(t, Setup{Servers: nodes(c), Keys: failoverKeys(keys)})
	failover, notify = p.hook("failover.sh", promote(c)), p.hook("notify.sh", "exit 0")
	p.setKey("failover_script", failover.Path)
	p.setKey("failover_notify_script", notify.Path)
	p.Run()
	return p, failover, notify
}

// setKey puts a key into the main section of a prepared pool.
func (p *Pool) setKey(key, value string) {
	p.t.Helper()
	file := p.path("pgagroal.conf")
	data, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	text := strings.Replace(string(data), "[pgagroal]\n", "[pgagroal]\n"+key+" = "+value+"\n", 1)
	writeFile(p.t, file, text, 0o644)
}
