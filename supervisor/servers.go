package supervisor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// servers is what the loop keeps about the servers beside the machine, which decides
// their states.
type servers struct {
	machine   machine
	prober    prober
	where     []*where // by slot, as everything about servers is
	tick      *timer
	snapshot  failover.Snapshot
	published bool   // the machine has published a snapshot
	known     bool   // the machine has looked at the servers, so clients may be accepted
	phase     string // phase of the machine when the workers were last told why clients wait
	gen       uint64
	versions  []string     // server_version at the last login or probe, "" if unknown
	noPass    []*probeUser // last client that a server let in without a password
	replies   map[uint64]func(failover.Reply)
	nextTag   uint64
	hints     []failover.Hinted // to be fed to the machine at the next turn, see hint
}

// machine is failover.Machine, or a test.
type machine interface {
	Step(now time.Duration, ev failover.Event) []failover.Action
	Deadline() (time.Duration, bool)
	Status(now time.Duration) failover.Status
	Outlook() *failover.Rehearsal
	Refuses(failover.Config) string
}

// probeUser is a login without a password.
type probeUser struct{ user, database string }

func newServers(c *config.Config, m machine) servers {
	sv := servers{machine: m, replies: map[uint64]func(failover.Reply){}}
	for slot := range c.Slots() {
		sv.occupy(slot, c.Slot(slot))
	}
	return sv
}

// occupy begins anew with the server of a slot, nil for none. Slots are filled in their order.
func (sv *servers) occupy(slot int, x *config.Server) {
	if slot == len(sv.where) {
		sv.where, sv.versions, sv.noPass = append(sv.where, nil), append(sv.versions, ""), append(sv.noPass, nil)
	}
	sv.where[slot], sv.versions[slot], sv.noPass[slot] = &where{literal: true}, "", nil
	if x != nil {
		sv.where[slot] = newWhere(x.Host, x.Port)
	}
}

// machineConfig returns the part of the configuration that the machine needs.
func machineConfig(c *config.Config) failover.Config {
	f := failover.Config{
		Enabled: c.DecidesFailover(), Follow: c.FailoverMode == config.ModeFollow,
		NotifyConfigured: c.FailoverNotifyScript != "" && runsScripts(c),
		FenceScript:      c.FailoverFenceScript != "",
		HealthCheck:      c.HealthCheck, HealthCheckPeriod: c.HealthCheckPeriod,
		StartTimeout: orNone(c.FailoverStartTimeout), ProbeCount: c.FailoverProbeCount,
		ProbeInterval: orNone(c.FailoverProbeInterval), ProbeTimeout: c.FailoverProbeTimeout,
		RestartGrace: orNone(c.FailoverRestartGrace), StartupGrace: orNone(c.FailoverStartupGrace),
		SilenceTime: orNone(c.FailoverSilenceTime), MinStandbys: c.FailoverMinStandbys,
		Veto: c.FailoverVetoStreaming, VetoMax: orNone(c.FailoverVetoMax),
		MaxLag: uint64(max(c.FailoverMaxLag, 0)), ScriptTimeout: c.FailoverScriptTimeout,
		MaxRuns: c.FailoverMax, Window: orNone(c.FailoverWindow),
		VerifyTimeout: orNone(c.FailoverVerifyTimeout), NotifyTimeout: c.FailoverNotifyTimeout,
		NotifyRetries: c.FailoverNotifyRetries, Quarantine: orNone(c.FailbackQuarantine),
	}
	f.ProbeUser, f.CredentialHint = c.HealthCheckUser, credentialHint(c)
	switch c.FailoverSettle {
	case config.SettleManual:
		f.Settle = failover.SettleManual
	default:
		f.Settle = failover.SettleAuto
	}
	if c.Failback == config.FailbackStandby {
		f.Failback = failover.FailbackStandby
	}
	switch c.FailoverVerify {
	case config.VerifyStrict:
		f.Verify = failover.VerifyStrict
	case config.VerifyOff:
		f.Verify = failover.VerifyOff
	}
	switch c.StartupValidation {
	case config.StartupOff:
		f.Validate = failover.ValidationOff
	case config.StartupOn:
		f.Validate = failover.ValidationOn
	}
	f.Servers = make([]failover.ServerConfig, c.Slots())
	for slot, sv := range c.InSlots() {
		f.Order = append(f.Order, slot)
		f.Servers[slot] = failover.ServerConfig{
			Name: sv.Name, Host: sv.Host, Port: strconv.Itoa(sv.Port), PrimaryHint: sv.Primary,
			Candidate: sv.FailoverCandidate, Priority: sv.FailoverPriority,
		}
	}
	return f
}

// credentialHint returns what an operator can do about probes that have no password, or the wrong one.
func credentialHint(c *config.Config) string {
	switch {
	case c.HealthCheckUser != "" && c.ProbeCredential() == nil:
		return fmt.Sprintf("pgagroal-admin -f %s user add -U %s, then pgagroal-cli conf reload", c.Paths.UsersFile(), c.HealthCheckUser)
	case c.HealthCheckUser != "":
		return fmt.Sprintf("pgagroal-admin -f %s user edit -U %s, then pgagroal-cli conf reload", c.Paths.UsersFile(), c.HealthCheckUser)
	case c.Superuser == nil:
		return "set health_check_user, and give it an entry in the users file if it needs a password"
	}
	return ""
}

// orNone turns 0, with which an operator means no time at all, into 1 ns, because the
// machine takes 0 for a value that wasn't given.
func orNone(d time.Duration) time.Duration { return max(d, 1) }

// runsScripts reports whether pgagroal itself promotes servers. With failover_mode =
// follow it waits until somebody else has promoted one.
func runsScripts(c *config.Config) bool { return c.Failover && c.FailoverMode == config.ModeScript }

// startServers starts the machine, which then probes every server.
func (s *supervisor) startServers() {
	s.startResolving()
	s.feed(failover.Started{Wall: s.env.wall()})
	if s.dir.Ours || !s.dir.Usable {
		s.feed(failover.RunsAllowed{Allowed: s.dir.Ours})
	}
	if s.dir.Ours {
		s.lockIsOurs()
	}
}

// feed gives the machine one event, and carries out the actions that it returns.
func (s *supervisor) feed(ev failover.Event) {
	s.console.figures.note(s.env.wall(), ev)
	acts := s.servers.machine.Step(s.env.now(), ev)
	s.actions.queue = append(s.actions.queue, acts...)
	s.armMachine()
	s.execute()
	s.statusChanged()
	s.reasonChanged()
	s.checkKnown()
	if s.stop.mode == stopNow {
		s.checkStopped()
	}
}

// reasonChanged tells the workers why clients wait, if the reason has changed. The
// snapshot may be the same.
func (s *supervisor) reasonChanged() {
	st := s.servers.machine.Status(s.env.now())
	if st.Phase == s.servers.phase {
		return
	}
	s.console.figures.entersPhase(s.env.now(), st.Phase)
	s.console.figures.changed(s.env.wall(), st.Phase, st.Reason)
	s.servers.phase = st.Phase
	if s.servers.published && !s.servers.snapshot.Open {
		s.sendServerStates()
	}
}

// checkKnown lets clients in once the machine has looked at the servers.
func (s *supervisor) checkKnown() {
	if s.servers.known || !s.servers.published || len(s.actions.queue) > 0 || s.saver.barrier {
		return // the action with the first snapshot may still be in the queue
	}
	switch s.servers.machine.Status(s.env.now()).Phase {
	case failover.PhaseNew.String(), failover.PhaseStarting.String():
		return
	}
	s.servers.known = true
	s.gateChanged()
	s.checkReady()
}

// armMachine sets the timer to the machine's next deadline.
func (s *supervisor) armMachine() {
	when, ok := s.servers.machine.Deadline()
	t := s.servers.tick
	if t != nil && t.pos >= 0 && ok && t.when == when {
		return
	}
	s.timers.stop(t)
	s.servers.tick = nil
	if ok {
		s.servers.tick = s.timers.at(when, func() { s.feed(failover.Tick{}) })
	}
}

var hintKinds = map[ipc.HintKind]string{
	ipc.HintRefused: "refused", ipc.HintReset: "reset", ipc.HintEOF: "eof",
	ipc.HintTimeout: "timeout", ipc.HintUnreachable: "timeout", ipc.HintSQLState: "error",
	ipc.HintDied: failover.HintDied,
}

func (s *supervisor) onHint(c *child, m *ipc.Hint) {
	if wrong := s.claimOfHint(m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	kind := hintKinds[m.Kind]
	s.log.Debug("hint", "worker", c.index, "server", s.serverName(m.Server), "kind", kind, "code", m.SQLState, "text", m.Text)
	s.hint(failover.Hinted{Server: m.Server, Epoch: m.Epoch, Kind: kind, Code: m.SQLState})
}

// hint collects what workers report until the loop's next turn, and then gives the machine
// each different report once. All backends are lost at the same time, and each step of the
// machine costs a record, snapshots and a status.
func (s *supervisor) hint(ev failover.Hinted) {
	if slices.Contains(s.servers.hints, ev) {
		return
	}
	s.servers.hints = append(s.servers.hints, ev)
	if len(s.servers.hints) > 1 {
		return
	}
	s.after(0, func() {
		hints := s.servers.hints
		s.servers.hints = nil
		for _, ev := range hints {
			s.feed(ev)
		}
	})
}

func (s *supervisor) onLoginSeen(c *child, m *ipc.LoginSeen) {
	held, ok := s.ledger.Lease(m.Lease)
	if !ok || held.Worker != c.index || m.HotStandby > ipc.StandbyOn {
		s.violation(c, "a login with a lease that it doesn't have")
		return
	}
	if s.cfg.Slot(held.Server) == nil {
		return // it has been removed
	}
	if m.Version != "" {
		s.servers.versions[held.Server] = strings.Clone(m.Version[:min(len(m.Version), maxVersion)])
	}
	if m.NoPassword {
		s.servers.noPass[held.Server] = &probeUser{held.Key.User, held.Key.Database}
	}
	hot := [...]failover.HotStandby{failover.HotStandbyUnknown, failover.HotStandbyOff, failover.HotStandbyOn}[m.HotStandby]
	s.feed(failover.LoginSeen{Server: held.Server, Epoch: held.Epoch, Hot: hot})
}

// isSlot reports whether there is or was a server in a slot. A worker may not know yet that it is gone.
func (s *supervisor) isSlot(i int) bool { return i >= 0 && i < s.cfg.Slots() }

func (s *supervisor) serverName(i int) string {
	if sv := s.cfg.Slot(i); sv != nil {
		return sv.Name
	}
	return ""
}

// publish puts a snapshot in force. It closes the Ledger before the workers get the
// snapshot, and opens it after that, so that no grant arrives before the epoch that it
// belongs to.
func (s *supervisor) publish(snap failover.Snapshot) {
	s.servers.snapshot, s.servers.published = snap, true
	if !snap.Open {
		s.carryOut(s.ledger.SetTarget(snap.Primary, snap.Epoch, false))
	}
	s.sendServerStates()
	if snap.Open {
		s.liftFence(snap.Epoch)
	}
	if snap.Open && s.stop.mode != stopNow && !s.service.upgrade.closing {
		s.carryOut(s.ledger.SetTarget(snap.Primary, snap.Epoch, true))
	}
}

// sendServerStates sends every worker the complete states under a new number.
func (s *supervisor) sendServerStates() {
	if !s.servers.published {
		return
	}
	m := s.serverState()
	s.ready(func(c *child) { s.send(c, m) })
}

// sendServerState sends a new worker the states.
func (s *supervisor) sendServerState(c *child) {
	if s.servers.published {
		s.send(c, s.serverState())
	}
}

func (s *supervisor) serverState() *ipc.ServerState {
	s.servers.gen++
	snap := s.servers.snapshot
	m := &ipc.ServerState{
		Gen: s.servers.gen, Epoch: snap.Epoch, Open: snap.Open, Primary: snap.Primary,
		Graceful: s.stop.mode == stopGraceful, HoldAll: s.clients.pauses[""] != nil, Hold: s.clients.pauses.databases(),
	}
	if !snap.Open {
		m.Why = s.servers.machine.Status(s.env.now()).Public
	}
	for i, v := range snap.Servers {
		if s.cfg.Slot(i) == nil {
			continue
		}
		info := ipc.ServerInfo{Index: i, State: failover.Display(v.State, v.Qualifier)}
		for _, a := range s.addressesOf(i) {
			info.Network, info.Addresses = a.network, append(info.Addresses, a.address)
		}
		m.Servers = append(m.Servers, info)
	}
	return m
}
