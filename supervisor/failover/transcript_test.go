package failover

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts in testdata anew; read the diff")

// TestTranscripts replays testdata/*.txt. Lines starting with "> " are commands and "#" comments; everything else is
// what the machine did.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { replay(t, f) })
	}
}

func replay(t *testing.T, file string) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t}
	var got bytes.Buffer
	for line := range strings.Lines(string(want)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || (line[0] != '>' && line[0] != '#') {
			continue
		}
		fmt.Fprintln(&got, line)
		if line[0] == '>' {
			p.command(strings.Fields(line[1:]))
		}
		if p.w != nil {
			for _, o := range p.w.out {
				fmt.Fprintln(&got, o)
			}
			p.w.out = nil
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("%s (-recorded +now):\n%s", file, d)
	}
}

// player executes the commands of a transcript.
type player struct {
	t   *testing.T
	cfg Config
	w   *world
	nod []*node
}

func (p *player) command(f []string) {
	name, args := f[0], f[1:]
	opt := map[string]string{}
	var plain []string
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if ok {
			opt[k] = v
		} else {
			plain = append(plain, a)
			opt[a] = "on"
		}
	}
	switch name {
	case "config":
		p.config(opt)
	case "server":
		p.server(plain[0], opt)
	case "node":
		for _, n := range strings.Split(plain[0], ",") {
			p.node(n, plain[1], opt)
		}
	case "cluster":
		p.cluster(int(p.num(plain[0])), opt)
	case "script", "notify", "cutoff":
		p.w.hooks[map[string]string{"script": HookFailover, "notify": HookNotify, "cutoff": HookFence}[name]] = p.script(opt)
	default:
		p.act(name, plain, opt)
	}
}

// cluster is the usual beginning, not shown: n servers, s1 the primary, and everything open after a second.
func (p *player) cluster(n int, opt map[string]string) {
	p.cfg.Enabled, p.cfg.Veto = true, true
	for k := range opt {
		if _, err := strconv.Atoi(k); err == nil {
			delete(opt, k)
		}
	}
	p.config(opt)
	for i := range n {
		p.server(fmt.Sprintf("s%d", i+1), map[string]string{})
		*p.nod[i] = node{outcome: SawStandby, system: 7, timeline: 1, lsn: 0x200, receiver: ReceiverStreaming}
	}
	p.nod[0].outcome = SawPrimary
	p.act("start", nil, nil)
	p.w.run(time.Second)
	p.w.out = nil
}

func (p *player) act(name string, plain []string, opt map[string]string) {
	w := p.w
	switch name {
	case "start":
		p.w = newWorld(p.cfg, p.nod)
		p.w.verbose = opt["verbose"] != ""
		p.w.now = 0
		p.w.start()
	case "restart":
		w.now += p.dur(opt["after"])
		w.start()
	case "damage": // the record can't be read at the next restart
		w.saved = &Record{Version: RecordVersion, Damaged: true}
	case "run":
		w.run(w.now + p.dur(plain[0]))
	case "sleep": // of the whole process: nothing is looked at, no deadline is kept
		w.now += p.dur(plain[0])
	case "hint":
		kind := "error"
		if opt["died"] != "" {
			kind = HintDied
		}
		w.step(Hinted{Server: p.index(plain[0]), Epoch: p.epoch(opt), Kind: kind, Code: opt["code"]})
	case "login":
		hot := map[string]HotStandby{"on": HotStandbyOn, "off": HotStandbyOff}[opt["hot"]]
		w.step(LoginSeen{Server: p.index(plain[0]), Epoch: p.epoch(opt), Hot: hot})
	case "clear":
		w.step(ClearServer{Tag: p.num(opt["tag"]), Name: plain[0], Force: opt["force"] != ""})
	case "switch":
		w.step(SwitchTo{Tag: p.num(opt["tag"]), Name: plain[0], Force: opt["force"] != "", Timeout: p.dur(opt["timeout"])})
	case "busy":
		w.busy = int(p.num(plain[0]))
	case "reset":
		w.step(Reset{Tag: p.num(opt["tag"])})
	case "pause":
		w.step(Pause{Tag: p.num(opt["tag"])})
	case "clients": // paused, or go on
		ev := ClientsPaused{All: plain[0] == "paused"}
		if ev.All {
			ev.Text = "clients of all databases are paused"
		}
		w.step(ev)
	case "resume":
		w.step(Resume{Tag: p.num(opt["tag"])})
	case "trigger":
		w.step(Trigger{Tag: p.num(opt["tag"]), To: opt["to"], Force: opt["force"] != ""})
	case "rehearse":
		w.step(Rehearse{Tag: p.num(opt["tag"])})
	case "save":
		w.saveErr = nil
		if opt["fail"] != "" {
			w.saveErr = errDisk
		}
	case "fence":
		w.noFence = opt["never"] != ""
	case "fenced":
		w.step(Fenced{Epoch: p.num(opt["epoch"]), Seq: p.num(opt["seq"])})
	case "address": // takes effect at the next restart
		p.cfg.Servers[p.index(plain[0])].Host = opt["host"]
		w.cfg = p.cfg
	case "status":
		p.status()
	default:
		p.runEvents(name, opt)
	}
}

func (p *player) runEvents(name string, opt map[string]string) {
	w := p.w
	last := StartRun{}
	if len(w.runs) > 0 {
		last = w.runs[len(w.runs)-1]
	}
	switch name {
	case "ended":
		s := p.script(opt)
		s.end.RunID, s.end.Hook = last.RunID, last.Hook
		w.step(s.end)
	case "lost":
		w.step(RunLost{last.RunID})
	case "empty":
		w.step(RunGroupEmpty{RunID: last.RunID, GivenUp: opt["given_up"] != ""})
	case "runner":
		if opt["down"] != "" {
			w.step(RunnerDown{"connection refused"})
		} else if opt["silent"] != "" {
			w.step(RunnerSilent{"it has not answered for 9s"})
		} else if opt["notify"] != "" {
			w.step(NotifyBroken{strings.ReplaceAll(strings.TrimPrefix(opt["notify"], "well"), "_", " ")})
		} else if opt["heard"] != "" {
			w.step(RunnerSilent{})
		} else {
			w.step(RunnerUp{})
		}
	case "allowed":
		w.step(RunsAllowed{Allowed: opt["no"] == "", Holder: strings.ReplaceAll(opt["holder"], "_", " ")})
	case "stopping":
		w.step(Stopping{})
	default:
		p.t.Fatalf("unknown command %q", name)
	}
}

func (p *player) epoch(opt map[string]string) uint64 {
	if e := opt["epoch"]; e != "" {
		return p.num(e)
	}
	return p.w.m.epoch
}

func (p *player) config(opt map[string]string) {
	c := &p.cfg
	for k, v := range opt {
		switch k {
		case "failover":
			c.Enabled = v == "on"
		case "notify":
			c.NotifyConfigured = v == "on"
		case "health":
			c.HealthCheck, c.HealthCheckPeriod = true, p.dur(v)
		case "settle":
			c.Settle = map[string]Settle{"auto": SettleAuto, "manual": SettleManual}[v]
		case "verify":
			c.Verify = map[string]Verify{"wait": VerifyWait, "strict": VerifyStrict, "off": VerifyOff}[v]
		case "validate":
			c.Validate = map[string]Validation{"try": ValidationTry, "off": ValidationOff, "on": ValidationOn}[v]
		case "retries":
			c.NotifyRetries = int(p.num(v))
		case "failback":
			c.Failback = map[string]Failback{"manual": FailbackManual, "standby": FailbackStandby}[v]
		case "quarantine":
			c.Quarantine = p.dur(v)
		case "maxlag":
			c.MaxLag = p.num(v)
		case "follow":
			c.Follow = v == "on"
		case "veto":
			c.Veto = v == "on"
		case "vetomax":
			c.VetoMax = p.dur(v)
		case "max":
			c.MaxRuns = int(p.num(v))
		case "window":
			c.Window = p.dur(v)
		case "probes":
			c.ProbeCount = int(p.num(v))
		case "probetimeout":
			c.ProbeTimeout = p.dur(v)
		case "minstandbys":
			c.MinStandbys = int(p.num(v))
		case "probeuser":
			c.ProbeUser, c.CredentialHint = v, "pgagroal-admin user edit -U "+v
		case "fencescript":
			c.FenceScript = v == "on"
		default:
			p.t.Fatalf("unknown setting %q", k)
		}
	}
}

func (p *player) server(name string, opt map[string]string) {
	s := ServerConfig{Name: name, Host: name + ".example", Port: "5432", PrimaryHint: opt["hint"] != "", Candidate: opt["nocandidate"] == ""}
	if v := opt["host"]; v != "" {
		s.Host = v
	}
	if v := opt["priority"]; v != "" {
		s.Priority = int(p.num(v))
	}
	p.cfg.Servers = append(p.cfg.Servers, s)
	p.nod = append(p.nod, &node{outcome: SawRefused, system: 7, timeline: 1, lsn: 0x100, receiver: ReceiverStreaming})
	if p.w != nil {
		p.w.nodes = p.nod
	}
}

func (p *player) node(name, outcome string, opt map[string]string) {
	n := p.nod[p.index(name)]
	n.outcome, n.code, n.words, n.mute = 0, opt["code"], strings.ReplaceAll(opt["words"], "_", " "), false
	for i, o := range outcomeNames {
		if o == outcome {
			n.outcome = Outcome(i)
		}
	}
	if n.outcome == 0 {
		p.t.Fatalf("unknown outcome %q", outcome)
	}
	if n.outcome != SawPrimary && n.outcome != SawStandby && p.w != nil {
		n.quietAt = p.w.now
	}
	for k, v := range opt {
		switch k {
		case "tl":
			n.timeline = uint32(p.num(v))
		case "lsn":
			n.lsn = p.num(v)
		case "start":
			n.start = int64(p.num(v))
		case "ckpt":
			n.ckpt = p.num(v)
		case "sys":
			n.system = p.num(v)
		case "receiver":
			n.receiver = map[string]Receiver{"gone": ReceiverGone, "streaming": ReceiverStreaming, "unknown": ReceiverUnknown}[v]
		case "bytes":
			n.bytes = v == "on"
		case "msg": // how long ago it received something; "stops": just now, and nothing since
			n.msg, n.msgAt = 0, 0
			if v == "stops" {
				n.msgAt = p.w.now
			} else {
				n.msg = p.dur(v)
			}
		case "rectimeout":
			n.timeout = p.dur(v)
		case "sender":
			n.sender = v
		case "sync":
			n.sync = strings.Split(v, ",")
		case "syncwait":
			n.syncWait = v == "on"
		case "paused":
			n.paused = v == "on"
		case "writes": // its LSN grows with every look
			n.writes = v == "on"
		case "mute": // its probes are never answered
			n.mute = v == "on"
		case "takes": // so long, each of its answers
			n.takes = p.dur(v)
		}
	}
}

func (p *player) script(opt map[string]string) script {
	s := script{manual: opt["manual"] != "", promote: opt["promote"] != "", demote: opt["demote"] != "", lost: opt["lost"] != "", after: 500 * time.Millisecond}
	if v := opt["after"]; v != "" {
		s.after = p.dur(v)
	}
	if v := opt["exit"]; v != "" {
		s.end.Exit = int(p.num(v))
	}
	if v := opt["signal"]; v != "" {
		s.end.Signal = int(p.num(v))
	}
	s.end.TimedOut = opt["timeout"] != ""
	s.end.Refused = opt["refused"]
	s.end.Left = opt["left"]
	return s
}

func (p *player) status() {
	s := p.w.m.Status(p.w.now)
	p.w.print("status %s: %s; busy=%v", s.Phase, s.Line(), s.Busy())
	if s.Held {
		p.w.print("status held for %v, ends with: %s", s.HeldFor, s.Command)
	}
	for _, a := range s.Alarms {
		p.w.print("status alarm %s: %s", a.Name, a.Text)
	}
	for _, v := range s.Servers {
		line := fmt.Sprintf("status %s %s: %s; seen %s, tl=%d", v.Name, Display(v.State, v.Qualifier), v.Reason, v.Seen, v.Timeline)
		if v.Command != "" {
			line += "; " + v.Command
		}
		p.w.print("%s", line)
	}
	at, ok := p.w.m.Deadline()
	if !ok {
		p.w.print("status asks for no Tick")
	} else {
		p.w.print("status wants a Tick in %v", at-p.w.now)
	}
}

func (p *player) index(name string) int {
	for i, s := range p.cfg.Servers {
		if s.Name == name {
			return i
		}
	}
	p.t.Fatalf("unknown server %q", name)
	return -1
}

func (p *player) dur(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (p *player) num(s string) uint64 {
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}
