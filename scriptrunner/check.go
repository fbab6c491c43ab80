package scriptrunner

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// A check is a run of a script with PGAGROAL_CHECK=1: it looks whether it could do its work, and changes nothing. It is
// no failover: its result isn't kept, and a run that a failover needs ends it at once.

const (
	// declaration is the line by which a script says that it knows PGAGROAL_CHECK. Other scripts are never executed
	// for a check, because they would promote a server. declaredWithin is where the line must be, in bytes.
	declaration    = "# pgagroal: check"
	declaredWithin = 4096
	// checkLimit, checkKillDelay and checkUnkillable are the limits of a check: until SIGTERM, from there to SIGKILL,
	// and from there until it isn't waited for any more.
	checkLimit      = 20 * time.Second
	checkKillDelay  = time.Second
	checkUnkillable = 2 * time.Second
)

func (k hook) knowsCheck() bool { return Declares(k.path) }

// Declares reports whether the script at path declares that it knows PGAGROAL_CHECK. Only text that begins with #! can.
func Declares(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, declaredWithin))
	if err != nil || !bytes.HasPrefix(b, []byte("#!")) {
		return false
	}
	for line := range bytes.Lines(b) {
		if bytes.HasSuffix(line, []byte("\n")) && string(bytes.TrimSpace(line)) == declaration {
			return true
		}
	}
	return false
}

// onCheckRun starts a check, or reports why it doesn't.
func (r *runner) onCheckRun(m *ipc.CheckRun) {
	x := &ipc.Run{RunID: m.RunID, Hook: m.Hook, Args: m.Args, Env: m.Env, Expires: m.Expires}
	k, err := r.admit(x)
	if err == nil && !k.knowsCheck() {
		err = errors.New("the script has no line \"" + declaration + "\" at its beginning")
	}
	if err == nil {
		k.timeout = min(k.timeout, checkLimit)
		err = r.start(x, k, true)
	}
	if err != nil {
		r.report(&ipc.RunEnded{RunID: m.RunID, Hook: m.Hook, Exit: -1, Refused: err.Error()})
		return
	}
	r.tell(slog.LevelInfo, "a script is checked", "run_id", m.RunID, "hook", m.Hook, "script", k.path, "args", m.Args, "pid", r.run.process.Pid)
	r.report(&ipc.RunStarted{RunID: m.RunID, PGID: r.run.process.Pid})
	r.name(&r.run.entry, r.run.process.Pid)
	r.status()
}

// endCheck ends a check in progress without waiting for it to end by itself, because nobody waits for its answer or a
// run needs its place.
func (r *runner) endCheck(why string) {
	x := r.run
	if x == nil || !x.check {
		return
	}
	r.log.Info("the check of a script is ended", "run_id", x.id, "hook", x.hook, "why", why)
	switch x.phase {
	case running, terminating:
		r.kill()
	case draining:
		r.keepOld(x.output)
		r.end()
	case killing:
	}
}

// preempt ends the check in progress, if there is one, and keeps the run until it has ended.
func (r *runner) preempt(m *ipc.Run) bool {
	if r.run == nil || !r.run.check || r.next != nil || r.stopping {
		return false
	}
	r.next = m
	r.endCheck("a run needs the runner")
	return true
}

// startNext starts the run that has waited for the end of a check.
func (r *runner) startNext() {
	if m := r.next; m != nil {
		r.next = nil
		r.onRun(m)
	}
}
