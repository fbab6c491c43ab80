package pool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// WaitWaiting waits until n clients wait for a backend.
func (p *Pool) WaitWaiting(n int) {
	p.T.Helper()
	pgtest.WaitUntil(p.T, Generous, fmt.Sprintf("%d clients to wait", n), func() bool { return p.waiting() == n },
		func() string { return fmt.Sprint(p.waiting()) }, p.Log)
}

// waiting returns how many clients whose password is known here wait for a backend.
// Others wait before their login and aren't listed.
func (p *Pool) waiting() int {
	p.T.Helper()
	list, _ := p.JSON("status", "details")["Connections"].([]any)
	n := 0
	for _, e := range list {
		if c, _ := e.(map[string]any); c["Server"] == nil {
			n++
		}
	}
	return n
}

// CLI runs pgagroal-cli against the pool.
func (p *Pool) CLI(args ...string) (stdout, stderr string, code int) {
	p.T.Helper()
	cmd := p.Command("pgagroal-cli", append([]string{"-c", p.Path("pgagroal.conf")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.T.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// JSON runs a command of pgagroal-cli and returns its Response.
func (p *Pool) JSON(args ...string) map[string]any {
	p.T.Helper()
	out, errs, code := p.CLI(append(args, "--format", "json")...)
	var doc struct{ Response map[string]any }
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		p.T.Fatalf("pgagroal-cli %v: exit %d, %v\n%s%s", args, code, err, out, errs)
	}
	return doc.Response
}

// State returns the state of a server as `status` shows it, including the qualifier.
func (p *Pool) State(server string) string {
	p.T.Helper()
	servers, _ := p.JSON("status")["Servers"].(map[string]any)
	s, _ := servers[server].(map[string]any)
	state, _ := s["State"].(string)
	if q, _ := s["Qualifier"].(string); q != "" {
		return state + " (" + q + ")"
	}
	return state
}

// WaitState waits until a server is in a state.
func (p *Pool) WaitState(server, want string) {
	p.T.Helper()
	pgtest.WaitUntil(p.T, Generous, server+" to be "+want, func() bool { return p.State(server) == want },
		func() string { return p.State(server) }, p.Log)
}

// Complaints returns the warnings and errors in the log but those of a busy machine.
func (p *Pool) Complaints() (lines []string) {
	for line := range strings.Lines(p.Log()) {
		warns := strings.Contains(line, " WARN ") && !strings.Contains(line, "the machine was too busy")
		if warns || strings.Contains(line, " ERROR ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// WaitLog waits for a text in the log.
func (p *Pool) WaitLog(text string) {
	p.T.Helper()
	pgtest.WaitUntil(p.T, Generous, fmt.Sprintf("%q in the log", text), func() bool {
		return strings.Contains(p.Log(), text)
	}, p.Log)
}
