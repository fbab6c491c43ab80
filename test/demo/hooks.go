package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// wrapper records its arguments, one line per run, and calls the hook with them.
// Promotion on one machine is quicker than usual, so the wrapper takes at least a given
// time.
const wrapper = `#!/usr/bin/env bash
set -u
here=$(dirname "$0")
(IFS=$'\t' && printf '%%s\n' "$*" >>"$here/%[1]s.runs")
sleep %[2]s &
"$here/%[3]s" "$@"
status=$?
wait
exit $status
`

// writeHooks copies the example hooks beside wrappers and their settings.
func (s *stage) writeHooks() error {
	source := filepath.Join(filepath.Dir(s.bin), "contrib", "hooks")
	for _, name := range []string{"promote-local.sh", "follow-new-primary.sh", "repoint-standby.sh"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return fmt.Errorf("copy the example hooks: %w", err)
		}
		if err := s.writeFile(s.path("hooks", name), string(text), 0o700); err != nil {
			return err
		}
	}
	seconds := strconv.FormatFloat(s.script.Seconds(), 'f', 3, 64)
	for name, text := range map[string]string{
		"failover.sh": fmt.Sprintf(wrapper, "failover", seconds, "promote-local.sh"),
		"notify.sh":   fmt.Sprintf(wrapper, "notify", "0", "follow-new-primary.sh"),
	} {
		if err := s.writeFile(s.path("hooks", name), text, 0o700); err != nil {
			return err
		}
	}
	settings, err := s.hookSettings()
	if err != nil {
		return err
	}
	return s.writeFile(s.path("hooks", "hooks.conf"), settings, 0o600)
}

// hookSettings is hooks.conf. Between promotion and the first attached standby
// commits don't wait for one, which keeps the outage short; -keep-sync shows the
// other choice, in which no commit is ever on one server alone.
func (s *stage) hookSettings() (string, error) {
	server, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.cluster.Primary().PID()))
	if err != nil {
		return "", fmt.Errorf("find the programs of PostgreSQL: %w", err)
	}
	bin := filepath.Dir(server)
	var b strings.Builder
	b.WriteString("SERVERS='\n")
	for _, n := range s.cluster.Nodes {
		fmt.Fprintf(&b, "%s %d %s\n", n.Host, n.Port, n.DataDir)
	}
	fmt.Fprintf(&b, "'\nPG_BIN=%s\nPG_USER=postgres\n", bin)
	if !s.keepSync {
		fmt.Fprintf(&b, "SYNC_STANDBY_NAMES='%s'\n", syncNames)
	}
	return b.String(), nil
}

// runs returns the arguments of each run of a hook so far.
func (s *stage) runs(hook string) ([][]string, error) {
	text, err := os.ReadFile(s.path("hooks", hook+".runs"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		all = append(all, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return all, nil
}
