package supervisor

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
)

// A reload puts all of a new configuration in effect, or nothing of it.
//
//  1. Prepare: the files are read and checked outside the loop. Each worker and the runner
//     get the new generation, make ready everything that could fail, and answer.
//  2. Commit: each is told that the generation is in effect, and this process takes it
//     over. Nothing of that can fail.
//
// A refusal, a child that doesn't answer in time, or a failover that begins meanwhile ends
// the reload, and the old configuration stays.
//
// A change of the credential files goes the same way, see follow.go, except for the runner,
// which doesn't know them.

// reloadLimit is how long the children may take to answer.
const reloadLimit = 10 * time.Second

// reload is the reload in progress, if any.
type reload struct {
	busy    bool   // files are being read, or next waits for answers
	follows bool   // of the credential files alone, which nobody has asked for
	then    func() // the reload after this one, nil for none
	last    uint64
	next    *generation // nil while files are being read
	fresh   *config.Config
	waiting map[*child]bool // who hasn't answered
	runner  bool            // whether the runner hasn't answered
	limit   *timer
	answer  func(control.ReloadResponse, error)
	env     config.CheckEnv // what the checks of the start knew
	saving  bool            // auto.conf is being written
	// change is what a command changes instead of reading the files, nil for a reload of the files.
	change *confChange
}

// onReload handles SIGHUP.
func (s *supervisor) onReload() {
	if x := &s.reload; x.busy {
		if x.then == nil {
			x.then = s.onReload // files may have changed after they were read
		}
		return
	}
	s.startReload(func(control.ReloadResponse, error) {})
}

// startReload begins a reload. answer gets its outcome, which is in the log, too.
func (s *supervisor) startReload(answer func(control.ReloadResponse, error)) {
	s.startChange(nil, answer)
}

// startChange is startReload, or does the same with the change of a command.
func (s *supervisor) startChange(change *confChange, answer func(control.ReloadResponse, error)) {
	x := &s.reload
	why := s.cannotReload()
	if x.busy && x.follows && x.then == nil && why == "" {
		x.then = func() { s.startChange(change, answer) }
		return
	}
	if x.busy {
		why = "another reload is in progress"
	}
	if why != "" {
		s.log.Warn("the configuration stays as it is", "reason", why)
		answer(control.ReloadResponse{}, errors.New(why))
		return
	}
	if s.service.ready {
		s.env.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonicMicroseconds()))
	}
	read := readFiles
	if x.change = change; change != nil {
		read = change.read
	}
	s.beginReload(read, answer)
}

// beginReload has files read for the next generation.
func (s *supervisor) beginReload(read reader, answer func(control.ReloadResponse, error)) {
	x := &s.reload
	x.busy, x.answer = true, answer
	running, env, gen, salt, log := s.generation, x.env, max(x.last, s.gen)+1, s.service.scramSalt, s.service.logging
	open, program, starter := s.clients.ports.open, s.console.program, s.workers.starter
	x.last = gen
	elsewhere(s, func() (*readAgain, error) {
		r, err := read(&running, env, gen, salt)
		if err == nil && log.open != nil {
			r.log, err = openNextLog(running.cfg, r.next.cfg, log.console)
		}
		if err != nil {
			return nil, err
		}
		if err = r.preparePorts(open, program, starter, running.cfg, s.log); err != nil && r.log != nil {
			r.log.Close()
		}
		return r, err
	}, s.onFilesRead)
}

// reader reads files and returns what the running generation becomes. It runs outside the loop.
type reader func(running *generation, env config.CheckEnv, gen uint64, salt ipc.Secret) (*readAgain, error)

// monotonicMicroseconds is the time that systemd compares a reload's beginning with.
func monotonicMicroseconds() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / int64(time.Microsecond)
}

// cannotReload returns why no reload may begin or end now, or "".
func (s *supervisor) cannotReload() string {
	phase := s.servers.machine.Status(s.env.now()).Phase
	switch {
	case s.stop.mode == stopNow:
		return errEnded.Error()
	case s.runner.current != nil:
		return "a script runs"
	case slices.Contains([]string{
		failover.PhaseFencing.String(), failover.PhaseChoosing.String(), failover.PhaseRunning.String(), failover.PhaseSwitching.String(),
	}, phase):
		return "a failover is under way (" + phase + ")"
	}
	return ""
}

// readAgain is what the files have become.
type readAgain struct {
	fresh    *config.Config // as in the files
	next     *generation    // what will be in effect
	warnings []config.Warning
	log      *logs.Log // nil if it is the one that is open
	sockets  *listen.Change
	program  *os.File // of the console, if it was not open
}

// readFiles is the reader of all files.
func readFiles(running *generation, env config.CheckEnv, gen uint64, salt ipc.Secret) (*readAgain, error) {
	fresh, warnings, err := running.cfg.Again()
	if err != nil {
		return nil, err
	}
	return checked(running, fresh, warnings, env, gen, salt)
}

// checked makes a generation of a configuration if it can be used.
func checked(running *generation, fresh *config.Config, warnings []config.Warning, env config.CheckEnv, gen uint64, salt ipc.Secret) (*readAgain, error) {
	env.FileLimit = fileLimit()
	if errs := fresh.Check(env); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	next := config.Reloaded(running.cfg, fresh)
	if errs := next.Check(env); len(errs) > 0 {
		return nil, fmt.Errorf("with what needs a restart as it is: %w", errors.Join(errs...))
	}
	g, err := newGeneration(gen, next, salt, running)
	return &readAgain{fresh: fresh, next: g, warnings: warnings}, err
}

// onFilesRead sends the new generation to everybody who must agree.
func (s *supervisor) onFilesRead(r *readAgain, err error) {
	x := &s.reload
	if err != nil {
		s.refuseReload(err)
		return
	}
	s.service.logging.next = r.log
	s.clients.ports.next, s.clients.ports.program = r.sockets, r.program
	if why := s.cannotReload(); why != "" {
		s.giveUpReload(errors.New(why))
		return
	}
	if why := s.refusesServers(r.next.cfg); why != "" {
		s.refuseReload(errors.New(why))
		return
	}
	if x.follows && len(config.Diff(s.cfg, r.fresh)) == 0 {
		s.nothingNew(r.fresh)
		return
	}
	if r.next.cfg.Failover && !s.dir.Usable {
		s.refuseReload(errors.New("failover needs state_dir, which can't be used; the log of the start says why"))
		return
	}
	for _, w := range r.warnings {
		s.log.Warn(w.String())
	}
	if sameClientTLS(&s.generation, r.next) {
		r.next.tls.TicketSeed = s.tls.TicketSeed // sessions can still be resumed
	}
	x.fresh, x.next, x.waiting = r.fresh, r.next, map[*child]bool{}
	x.limit = s.after(reloadLimit, s.reloadLate)
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.greeted && !c.ending() && sl.retired == nil && c.build == s.build {
			s.joinReload(c)
		}
	}
	if e := s.runner.end; e != nil {
		s.runnerJoinsReload(e)
	}
	s.checkPrepared()
}

// runnerJoinsReload asks a runner to read the files for the generation that is being
// prepared, if there is one.
func (s *supervisor) runnerJoinsReload(r *runnerEnd) {
	x := &s.reload
	if x.next == nil || x.follows || x.change != nil || r.ready == nil || r.gone || !runsScripts(x.next.cfg) {
		return
	}
	x.runner = true
	s.sendRunner(r, s.runnerConfigure(x.next.gen))
}

// consoleDiffers reports whether the console was told something else than what is in effect.
func (s *supervisor) consoleDiffers(old *generation) bool {
	was, is := old.cfg, s.cfg
	return was.AuthenticationTimeout != is.AuthenticationTimeout ||
		was.MetricsCacheMaxAge != is.MetricsCacheMaxAge || was.MetricsMaxSeries != is.MetricsMaxSeries || was.MetricsDetail != is.MetricsDetail || was.ConsoleNames != is.ConsoleNames ||
		!reflect.DeepEqual(old.consoleTLS, s.consoleTLS) || !reflect.DeepEqual(old.certificates, s.certificates) ||
		is.OpensManagement() && !sameClientTLS(old, &s.generation)
}

// sameClientTLS reports whether two generations show clients the same certificates and
// check theirs alike.
func sameClientTLS(a, b *generation) bool {
	was, is := a.tls, b.tls
	was.TicketSeed, is.TicketSeed = "", ""
	return reflect.DeepEqual(was, is) && reflect.DeepEqual(a.clientTLS, b.clientTLS)
}

// missingAnswers says who hasn't answered.
func (s *supervisor) missingAnswers() string {
	var who []string
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && s.reload.waiting[c] {
			who = append(who, fmt.Sprintf("worker %d", c.index))
		}
	}
	if s.reload.runner {
		who = append(who, "the script runner")
	}
	return fmt.Sprintf("no answer within %v from %s", reloadLimit, strings.Join(who, ", "))
}

// joinReload sends a worker the generation that is being prepared, if there is one.
func (s *supervisor) joinReload(c *child) {
	if x := &s.reload; x.next != nil {
		x.waiting[c] = true
		s.sendConfig(c, x.next)
	}
}

// leaveReload forgets a worker that has ended: the next process in its place gets the
// generation then in effect.
func (s *supervisor) leaveReload(c *child) {
	delete(s.reload.waiting, c)
	s.checkPrepared()
}

// onPrepared takes a worker's answer.
func (s *supervisor) onPrepared(c *child, m *ipc.ConfigDone) {
	x := &s.reload
	switch {
	case x.next == nil || m.Gen != x.next.gen || !x.waiting[c]: // of a reload that was given up
	case m.Error != "":
		s.refuseReload(fmt.Errorf("worker %d can't use it: %s", c.index, m.Error))
	default:
		delete(x.waiting, c)
		s.checkPrepared()
	}
}

// onRunnerPrepared takes the runner's answer.
func (s *supervisor) onRunnerPrepared(r *runnerEnd, m *ipc.RunnerReady) {
	x := &s.reload
	if x.next == nil || m.Gen != x.next.gen || !x.runner || s.runner.end != r {
		return
	}
	switch problem := runnerRefuses(x.next.cfg, m); {
	case problem != "":
		s.refuseReload(errors.New(problem))
	default:
		x.runner = false
		r.prepared = m
		s.checkPrepared()
	}
}

// runnerRefuses returns why the runner can't use a configuration, or "".
func runnerRefuses(c *config.Config, m *ipc.RunnerReady) string {
	if m.Error != "" {
		return "the script runner can't use it: " + m.Error
	}
	if m.Digest != c.HooksDigest() {
		return "the script runner has read other hooks or servers than we have"
	}
	for _, h := range m.Hooks {
		if h.Problem != "" {
			return fmt.Sprintf("the script runner can't run the %s script: %s", h.Hook, h.Problem)
		}
	}
	return ""
}

// runnerLeavesReload stops waiting for a runner that is gone. The next one reads the files
// itself, and is compared with the configuration then in effect.
func (s *supervisor) runnerLeavesReload() {
	if s.reload.runner {
		s.reload.runner = false
		s.checkPrepared()
	}
}

func (s *supervisor) checkPrepared() {
	x := &s.reload
	if x.next == nil || len(x.waiting) > 0 || x.runner || x.saving || s.saveChange() {
		return
	}
	if why := s.cannotReload(); why != "" {
		s.giveUpReload(errors.New(why))
		return
	}
	if why := s.refusesServers(x.next.cfg); why != "" {
		s.refuseReload(errors.New(why))
		return
	}
	s.commit()
}

// commit puts the prepared generation in effect everywhere.
func (s *supervisor) commit() {
	x := &s.reload
	old, next := s.generation, x.next
	changes := config.Diff(old.cfg, x.fresh)
	if !sameClientTLS(&old, next) || !reflect.DeepEqual(old.serverTLS, next.serverTLS) {
		changes = append(changes, config.Change{Key: "certificates"})
	}
	log := s.service.logging.next
	s.service.logging.next = nil
	p := &s.clients.ports
	sockets, program := p.next, p.program
	p.next, p.program = nil, nil
	s.generation = *next
	s.forgetPrepared()
	s.portsAfterReload(sockets, program)
	s.tellGeneration()
	s.logAfterReload(old.cfg, log)
	s.leases.aheadSaid = nil
	s.service.secrets = secrets{deriving: s.service.secrets.deriving}
	s.carryOut(s.ledger.Relimit(s.cfg.MaxConnections, rulesOf(s.cfg), func(key pool.Key, rule int) int {
		return sameRule(old.cfg.Limits, s.cfg.Limits, key, rule)
	}))
	moved, gone := s.serversAfterReload(old.cfg)
	if moved || !reflect.DeepEqual(old.serverTLS, s.serverTLS) {
		s.replaceAide(&s.servers.prober.aide)
		s.repeatLooks()
	}
	s.consoleAfterReload(&old, sockets != nil)
	r := reloadResponse(changes)
	if x.change == nil {
		r.Credentials = s.cfg.PassedCredentials()
	}
	s.service.upgrade.noteSet(x.change, x.follows)
	s.tellReloaded(r)
	s.runnerAfterReload(old.cfg)
	if x.change == nil {
		s.followed(s.cfg)
	}
	m := machineConfig(s.cfg)
	s.feed(failover.Reconfigured{Config: &m, Problem: s.follow.problems()})
	for _, l := range gone {
		l.done(nil, errServerGone)
	}
	s.endReload(r, nil)
}

// tellReloaded logs what is in effect now.
func (s *supervisor) tellReloaded(r control.ReloadResponse) {
	changed, restart := strings.Join(keysOf(r.Changed), ", "), strings.Join(keysOf(r.NeedsRestart), ", ")
	switch x := &s.reload; {
	case x.follows:
		s.log.Info("credential files have changed, and are in effect", "changed", changed)
	case x.change == nil:
		s.log.Info("configuration is reloaded", "changed", changed, "needs_restart", restart)
		if len(r.Credentials) > 0 {
			s.log.Info("credentials of the service manager are those of the start; a changed one needs a restart", "files", strings.Join(r.Credentials, ", "))
		}
	case x.change.reset:
		s.log.Info("configuration is reset", "key", x.change.name(), "changed", changed, "needs_restart", restart)
	default:
		s.log.Info("configuration is set", "key", x.change.name(), "changed", changed, "needs_restart", restart)
	}
}

// tellGeneration tells workers and runner which generation is in effect. They drop any
// other one that they have prepared.
func (s *supervisor) tellGeneration() {
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.state == childReady && sl.retired == nil && c.build == s.build {
			s.send(c, &ipc.ConfigCommit{Gen: s.gen})
		}
	}
	if e := s.runner.end; e != nil && e.ready != nil && !e.gone {
		s.sendRunner(e, &ipc.RunnerCommit{Gen: s.gen})
	}
}

// runnerAfterReload judges the runner by the new configuration, or starts or ends it.
func (s *supervisor) runnerAfterReload(old *config.Config) {
	e := s.runner.end
	switch had, has := runsScripts(old), runsScripts(s.cfg); {
	case has && !had && e == nil:
		s.linkRunner()
	case has && e != nil && e.ready != nil && !e.gone:
		if m := e.prepared; m != nil && m.Gen == s.gen {
			e.ready.Digest, e.ready.Error = m.Digest, m.Error
			e.takeProblems(m.Hooks)
		}
		e.agrees = e.ready.Digest == s.cfg.HooksDigest()
		s.judgeRunner(e)
	case had && !has && e != nil:
		s.dropRunner(e, "failover runs no scripts now")
	}
}

// sameRule returns the rule that now counts the leases of a pool: the one that fits the
// pool, except for clients that have named an alias, which keep the line that counted them
// if it is still there.
func sameRule(old, now []config.Limit, key pool.Key, rule int) int {
	if rule >= 0 && rule != config.FindLimit(old, key.Database, key.User) {
		was := old[rule]
		i := slices.IndexFunc(now, func(l config.Limit) bool { return l.SameNames(was) })
		if i >= 0 {
			return i
		}
	}
	return config.FindLimit(now, key.Database, key.User)
}

// refuseReload ends a reload whose files are at fault, or a change that can't be made.
func (s *supervisor) refuseReload(err error) {
	prepared := s.forgetPrepared()
	f, x, problem := &s.follow, &s.reload, strings.ReplaceAll(err.Error(), "\n", "; ")
	switch {
	case x.change != nil:
		err = x.change.lost(err)
		s.log.Warn("a change of the configuration is refused", "key", x.change.name(), "error", err)
		s.dropReload(prepared, err)
		return
	case x.follows:
		s.log.Error("the credential files can't be used; the old entries stay in effect", "error", err)
		f.read, f.problem = f.seen, problem
	default:
		s.log.Error("the configuration can't be reloaded; the old one stays in effect", "error", err)
		f.ofReload = problem
	}
	s.feed(failover.Reconfigured{Problem: f.problems()})
	s.dropReload(prepared, err)
}

// reloadLate gives up a reload that somebody hasn't answered. Nobody waits for the one that follows credential files, so it
// is an alarm until one succeeds.
func (s *supervisor) reloadLate() {
	why := s.missingAnswers()
	if follows := s.reload.follows; follows {
		s.follow.problem = "changed credential files aren't in effect: " + why
		s.feed(failover.Reconfigured{Problem: s.follow.problems()})
	}
	s.giveUpReload(errors.New(why))
}

// giveUpReload ends a reload for a reason that isn't in the files.
func (s *supervisor) giveUpReload(err error) {
	err = s.reload.change.lost(err)
	prepared := s.forgetPrepared()
	if s.reload.follows {
		s.log.Warn("the credential files have changed, and are tried again later", "reason", err)
	} else {
		s.log.Error("the reload is given up; the old configuration stays in effect", "reason", err)
	}
	s.dropReload(prepared, err)
}

// forgetPrepared ends the waiting for answers, and reports whether anybody was asked.
func (s *supervisor) forgetPrepared() bool {
	x := &s.reload
	was := x.next != nil
	x.next, x.waiting, x.runner, x.saving = nil, nil, false, false
	if log := s.service.logging.next; log != nil {
		log.Close()
		s.service.logging.next = nil
	}
	s.clients.ports.forget()
	return was
}

func (s *supervisor) dropReload(prepared bool, err error) {
	if prepared {
		s.tellGeneration()
	}
	s.endReload(control.ReloadResponse{}, err)
}

func (s *supervisor) endReload(r control.ReloadResponse, err error) {
	x := &s.reload
	s.timers.stop(x.limit)
	answer, follows, then := x.answer, x.follows, x.then
	s.reload = reload{last: x.last, env: x.env}
	if s.service.ready && !follows {
		s.env.notify("READY=1\nSTATUS=" + s.service.status)
	}
	answer(r, err)
	if then != nil {
		then()
	}
}

// reloadResponse says what has changed.
func reloadResponse(changes []config.Change) control.ReloadResponse {
	r := control.ReloadResponse{}
	for _, c := range changes {
		change := control.ConfChange{Key: c.Key, Old: c.Old, New: c.New}
		if c.Reload == config.Restart {
			r.Restart = true
			r.NeedsRestart = append(r.NeedsRestart, change)
		} else {
			r.Changed = append(r.Changed, change)
		}
	}
	return r
}

func keysOf(changes []control.ConfChange) []string {
	var keys []string
	for _, c := range changes {
		keys = append(keys, c.Key)
	}
	return keys
}
