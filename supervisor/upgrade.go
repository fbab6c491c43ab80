package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// An upgrade puts the program that is installed now in the place of this one, in the same
// process, so that sockets, children and locks stay where they are:
//
//  1. Trial: the installed program is started as a child. It reads configuration,
//     state_dir and a heritage, and brings up a worker, but takes no lock, opens no socket
//     and starts no script. Whatever is wrong with it shows here, and nothing has changed.
//  2. Standstill (standstill.go): nothing is read from the links any more, and everything
//     that was read is answered.
//  3. The heritage is written, and this process executes the program (execute.go), which
//     takes the heritage over (inherit.go). There is no way back from here.
//
// The workers that there are then serve their clients on, see retire.go.

const (
	// trialLimit is how long a trial may take.
	trialLimit = 10 * time.Second
	// trialText bounds what is kept of a trial's output.
	trialText = 4 << 10
	// maxWorkers bounds the workers of all versions.
	maxWorkers = 256
	// The flag and the variables of a trial and of a program that goes on.
	TrialFlag        = "trial"
	HeritageVariable = "PGAGROAL_HERITAGE"
	trialReportFD    = 3
	trialHeritageFD  = 4
)

// upgrade is what the loop keeps about upgrades.
type upgrade struct {
	program string    // what is executed: the path that this process was started as
	count   int       // upgrades of this process
	began   time.Time // when the process started
	pidFile string
	set     map[string]string                    // what conf set has set until the next reload
	answer  func(control.UpgradeResponse, error) // of the one in progress, nil for none
	trial   *os.Process                          // nil for none
	problem string                               // why the last one has failed, "" if it hasn't
	version string                               // of the program that was tried
	tried   os.FileInfo                          // of that program
	since   time.Duration                        // when the standstill began
	until   time.Duration                        // when to give up the search for one
	shut    []*valve
	closing bool         // the Ledger stays closed until the program is executed, whatever is published
	serving atomic.Int32 // requests of pgagroal-cli that are being answered
	flush   func()       // waits until the service manager knows everything
	// heritage is what the program before has left, nil if there was none, and once the loop runs.
	heritage *heritage
}

// trialReport is what a trial says if all is well.
type trialReport struct {
	Version  string `json:"version"`
	HandOver int    `json:"hand_over"`
}

// Upgrade puts the installed program in the place of this one.
func (o operator) Upgrade(ctx context.Context) (control.UpgradeResponse, error) {
	return ask(ctx, o.s, o.s.startUpgrade)
}

// cannotUpgrade returns why there can be no upgrade now, or "".
func (s *supervisor) cannotUpgrade() string {
	u := &s.service.upgrade
	switch {
	case s.stop.mode != stopNot:
		return "pgagroal is shutting down"
	case !s.service.ready:
		return "pgagroal has not come up yet"
	case s.clients.ports.open == nil || u.program == "":
		return "it isn't known which program to start"
	case s.runner.current != nil || s.runner.inherits.id != "":
		return "a script runs, or may have left processes"
	case s.runner.check != nil:
		return "a rehearsal is under way"
	case s.workers.recycling != nil:
		return "workers are being replaced"
	case s.reload.busy:
		return "a reload is under way"
	case len(s.rounds.flushes.limits) > 0:
		return "a graceful flush waits for its time limit"
	case s.dir.Usable && !s.dir.Ours:
		return "children of an earlier pgagroal hold state_dir"
	case s.saver.failed != nil:
		return "the state can't be saved: " + s.saver.failed.Error()
	case len(s.workers.slots)+s.cfg.EffectiveWorkers() > maxWorkers:
		return fmt.Sprintf("there are %d workers, most of them of earlier versions whose clients have not left", len(s.workers.slots))
	}
	for _, p := range s.clients.pauses {
		if p.answer != nil {
			return "a pause is under way"
		}
	}
	if m, ok := s.servers.machine.(*failover.Machine); ok {
		return m.Unsettled()
	}
	return ""
}

// startUpgrade begins an upgrade. answer gets its outcome; of success right before the
// program is executed.
func (s *supervisor) startUpgrade(answer func(control.UpgradeResponse, error)) {
	u := &s.service.upgrade
	why := s.cannotUpgrade()
	if u.answer != nil {
		why = "another upgrade is under way"
	}
	if why != "" {
		s.log.Warn("the upgrade is refused", "reason", why)
		answer(control.UpgradeResponse{}, errors.New(why))
		return
	}
	u.answer, u.problem = answer, ""
	s.log.Info("upgrade: the installed program is tried", "path", u.program)
	running, set, starter, program := s.cfg, maps.Clone(u.set), s.workers.starter, u.program
	elsewhere(s, func() (struct{}, error) {
		return struct{}{}, cmp.Or(notInEffect(running, set), renewable(starter, program))
	}, func(_ struct{}, err error) {
		if err != nil {
			s.upgradeFailed(err)
			return
		}
		s.startTrial()
	})
}

// notInEffect returns an error if the files have changes that are not in effect: the next
// program reads the files, and the sockets and children that it gets are those of the running
// configuration. So an upgrade changes the version and nothing else.
func notInEffect(running *config.Config, set map[string]string) error {
	fresh, _, err := running.Again()
	if err != nil {
		return fmt.Errorf("the configuration can't be read: %w", err)
	}
	for key, value := range set {
		if err := fresh.Set(key, value); err != nil {
			return fmt.Errorf("the configuration can't be read with what a command has set: %w", err)
		}
	}
	// Workers know the servers by their places, which a reload may have changed.
	same := running.Slots() == len(fresh.Servers)
	for i := range fresh.Servers {
		x := running.Slot(i)
		same = same && x != nil && x.Name == fresh.Servers[i].Name
	}
	if !same {
		return errors.New("servers came, went or moved since the start; restart pgagroal")
	}
	var reload, restart []string
	for _, c := range config.Diff(running, fresh) {
		if c.Reload == config.Restart {
			restart = append(restart, c.Key)
		} else {
			reload = append(reload, c.Key)
		}
	}
	switch {
	case len(restart) > 0:
		return fmt.Errorf("the configuration has changes that need a restart: %s; restart pgagroal, or take them back", strings.Join(restart, ", "))
	case len(reload) > 0:
		return fmt.Errorf("the configuration has changes that are not in effect: %s; pgagroal-cli conf reload first", strings.Join(reload, ", "))
	}
	return nil
}

// noteSet records what a change of the configuration, which is now in effect, means for the
// next program.
func (u *upgrade) noteSet(ch *confChange, follows bool) {
	switch {
	case follows:
	case ch == nil, ch.reset && ch.key == "":
		u.set = map[string]string{}
	case ch.reset, ch.save:
		delete(u.set, ch.key)
	default:
		if u.set == nil {
			u.set = map[string]string{}
		}
		u.set[ch.key] = ch.value
	}
}

// startTrial starts the installed program as a trial.
func (s *supervisor) startTrial() {
	h, err := s.makeHeritage(true)
	var left ipc.Packed
	if err == nil {
		left, err = h.pack()
	}
	if err != nil {
		s.upgradeFailed(err)
		return
	}
	u := &s.service.upgrade
	program := u.program
	if u.tried, err = os.Stat(u.program); err != nil {
		s.upgradeFailed(err)
		return
	}
	s.workers.spawning++
	elsewhere(s, func() (*trial, error) { return beginTrial(program, left) }, func(t *trial, err error) {
		s.workers.spawning--
		defer s.reapStrays()
		if err != nil {
			s.upgradeFailed(err)
			return
		}
		u.trial = t.cmd.Process
		elsewhere(s, t.wait, func(r trialReport, err error) {
			u.trial = nil
			s.onTrial(r, err)
		})
	})
}

// onTrial goes on after a trial.
func (s *supervisor) onTrial(r trialReport, err error) {
	u := &s.service.upgrade
	if err == nil && r.HandOver != HandOverVersion {
		err = fmt.Errorf("%s %s reads hand-overs of version %d, and this program writes version %d; restart pgagroal", u.program, r.Version, r.HandOver, HandOverVersion)
	}
	if err == nil {
		if why := s.cannotUpgrade(); why != "" {
			err = errors.New(why)
		}
	}
	if err != nil {
		s.upgradeFailed(err)
		return
	}
	u.version = r.Version
	u.until = s.env.now() + standstillSearch
	s.seekStandstill()
}

// isTried reports whether the program is still the file that was tried: another package, or whoever
// may write there, can have put another one in its place.
func (u *upgrade) isTried() bool {
	now, err := os.Stat(u.program)
	return err == nil && os.SameFile(now, u.tried) && now.Size() == u.tried.Size() && now.ModTime().Equal(u.tried.ModTime())
}

// upgradeFailed ends an upgrade after which nothing has changed.
func (s *supervisor) upgradeFailed(err error) {
	u := &s.service.upgrade
	answer := u.answer
	u.answer = nil
	problem := strings.ReplaceAll(err.Error(), "\n", "; ")
	u.problem = problem
	s.log.Error("the upgrade has failed; nothing has changed", "reason", problem)
	s.feed(failover.Upgraded{Problem: problem})
	if answer != nil {
		answer(control.UpgradeResponse{}, errors.New("nothing has changed: "+problem))
	}
}

// process identifies this process for pgagroal-cli, by the time of its start.
func (u *upgrade) process() string { return u.began.Format(time.RFC3339) }

// trial is the installed program while it is tried.
type trial struct {
	cmd    *exec.Cmd
	report *os.File
	said   *bytes.Buffer
	done   context.CancelFunc
	ctx    context.Context
}

// beginTrial starts the trial. It gets the heritage, but none of the descriptors in it.
func beginTrial(program string, heritage ipc.Packed) (*trial, error) {
	left, err := written(heritage)
	if err != nil {
		return nil, err
	}
	defer left.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a trial: %w", err)
	}
	defer w.Close()
	t := &trial{report: r, said: &bytes.Buffer{}}
	t.ctx, t.done = context.WithTimeout(context.Background(), trialLimit)
	t.cmd = exec.CommandContext(t.ctx, program, append(os.Args[1:], "--"+TrialFlag)...)
	t.cmd.Args[0] = os.Args[0]
	t.cmd.ExtraFiles = []*os.File{w, left}
	t.cmd.Stdout, t.cmd.Stderr = nil, &bounded{t.said}
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.cmd.Cancel = func() error { return syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) }
	t.cmd.WaitDelay = time.Second
	if err := t.cmd.Start(); err != nil {
		t.done()
		r.Close()
		return nil, fmt.Errorf("%s can't be started: %w", program, err)
	}
	return t, nil
}

// wait returns what the trial reports.
func (t *trial) wait() (trialReport, error) {
	defer t.done()
	defer t.report.Close()
	var r trialReport
	err := t.cmd.Wait() // the report fits into the pipe
	said := strings.TrimSpace(t.said.String())
	switch {
	case t.ctx.Err() != nil:
		return r, fmt.Errorf("the trial of %s has not ended within %v", t.cmd.Path, trialLimit)
	case err != nil:
		return r, fmt.Errorf("the trial of %s has failed: %w: %s", t.cmd.Path, err, said)
	}
	_ = t.report.SetReadDeadline(time.Now().Add(time.Second)) // somebody else may have it open
	b, err := io.ReadAll(io.LimitReader(t.report, trialText))
	if len(b) > 0 {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || r.Version == "" {
		return r, fmt.Errorf("the trial of %s has reported nothing that can be read: %s", t.cmd.Path, said)
	}
	return r, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ to *bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.to.Write(p[:min(len(p), max(0, trialText-b.to.Len()))])
	return len(p), nil
}

// upgraded says for status what upgrades have left, nil before the first attempt.
func (s *supervisor) upgraded() *control.Upgraded {
	u := &s.service.upgrade
	if u.count == 0 && u.problem == "" {
		return nil
	}
	r := &control.Upgraded{
		Count: u.count, Since: u.process(), Problem: u.problem,
		Note: "changes of the service's unit files and credentials since then take effect with a restart",
	}
	for _, sl := range s.workers.slots {
		if sl.child != nil && sl.retired != nil {
			r.OldWorkers++
			r.OldClients += len(sl.child.clients)
		}
	}
	return r
}
