package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// files are the files of a configuration, in a directory of the test.
type files struct {
	t   *testing.T
	dir string
}

const mainFile = `[pgagroal]
host = 127.0.0.1
port = 2345
unix_socket_dir = %[1]s
state_dir = %[1]s
workers = 2
max_connections = 4
%[2]s
[one]
host = 127.0.0.1
port = 5001
primary = on
[two]
host = 127.0.0.1
port = 5002
`

func newFiles(t *testing.T) *files {
	f := &files{t, t.TempDir()}
	f.write("pgagroal.conf", "")
	f.put("pgagroal_hba.conf", "host all all all trust\n")
	return f
}

// write writes the main file, with more lines in its main section.
func (f *files) write(name, lines string) { f.put(name, fmt.Sprintf(mainFile, f.dir, lines)) }

func (f *files) put(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// world starts a supervisor with the files.
func (f *files) world() *world {
	f.t.Helper()
	c, _, err := config.Load(config.Paths{
		Config: filepath.Join(f.dir, "pgagroal.conf"), HBA: filepath.Join(f.dir, "pgagroal_hba.conf"),
		Limits: filepath.Join(f.dir, "pgagroal_databases.conf"), Users: filepath.Join(f.dir, "pgagroal_users.conf"),
		MasterKey: filepath.Join(f.dir, "key", "master.key"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	w := newWorld(f.t, 2, func(had *config.Config) { *had = *c })
	w.s.reload.env = config.CheckEnv{UID: uint32(os.Geteuid())}
	w.up()
	return w
}

// outcome is how a reload has ended.
type outcome struct {
	answered bool
	response control.ReloadResponse
	err      error
}

func (w *world) reload() *outcome {
	o := &outcome{}
	w.s.startReload(func(r control.ReloadResponse, err error) { *o = outcome{true, r, err} })
	w.settle()
	return o
}

// prepared has a worker answer that it can use the generation that it was sent last.
func (w *world) prepared(f *fakeChild, problem string) {
	begun := messagesOf[*ipc.ConfigBegin](f)
	w.say(f, &ipc.ConfigDone{Gen: begun[len(begun)-1].Gen, Error: problem})
}

func committed(f *fakeChild) []uint64 {
	var all []uint64
	for _, m := range messagesOf[*ipc.ConfigCommit](f) {
		all = append(all, m.Gen)
	}
	return all
}

func TestReloadIsInEffectEverywhereOrNowhere(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	f.write("pgagroal.conf", "log_level = debug\nblocking_timeout = 7s\nmax_connections = 9\n")
	got := w.reload()
	w.prepared(w.children[0], "")
	if got.answered || w.s.cfg.LogLevel != "info" || len(committed(w.children[0])) != 0 {
		t.Fatal("it is in effect before all workers can use it")
	}
	w.prepared(w.children[1], "")
	if !got.answered || got.err != nil || w.s.cfg.LogLevel != "debug" {
		t.Fatalf("%+v, log_level %s", got, w.s.cfg.LogLevel)
	}
	for _, c := range w.children {
		if all := committed(c); !slices.Equal(all, []uint64{2}) {
			t.Errorf("a worker was told %v", all)
		}
	}
	if keys := keysOf(got.response.Changed); !slices.Equal(keys, []string{"log_level", "blocking_timeout"}) {
		t.Errorf("changed: %v", keys)
	}
	if keys := keysOf(got.response.NeedsRestart); !slices.Equal(keys, []string{"max_connections"}) || !got.response.Restart {
		t.Errorf("needs a restart: %v", keys)
	}
	if w.s.cfg.MaxConnections != 4 {
		t.Error("what needs a restart is in effect")
	}
	told := eventsOf[failover.Reconfigured](w)
	if len(told) != 1 || told[0].Config == nil || told[0].Problem != "" {
		t.Errorf("the machine was told %+v", told)
	}
}

func TestReloadThatCannotBeUsedChangesNothing(t *testing.T) {
	for name, end := range map[string]func(f *files, w *world) string{
		"a file is damaged": func(f *files, w *world) string {
			f.write("pgagroal.conf", "log_level = debug\nmax_pools = many\n")
			return "max_pools"
		},
		"a file is gone": func(f *files, w *world) string {
			if err := os.Remove(filepath.Join(f.dir, "pgagroal_hba.conf")); err != nil {
				t.Fatal(err)
			}
			return "pgagroal_hba.conf"
		},
		"a worker refuses": func(f *files, w *world) string {
			f.write("pgagroal.conf", "log_level = debug\n")
			return "worker 1 can't use it: no key"
		},
		"a worker doesn't answer": func(f *files, w *world) string {
			f.write("pgagroal.conf", "log_level = debug\n")
			return "no answer within 10s from worker 1"
		},
		"a failover begins": func(f *files, w *world) string {
			f.write("pgagroal.conf", "log_level = debug\n")
			return "a failover is under way (fencing)"
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			w := f.world()
			want := end(f, w)
			got := w.reload()
			if !got.answered {
				w.prepared(w.children[0], "")
			}
			switch name {
			case "a worker refuses":
				w.prepared(w.children[1], "no key")
			case "a worker doesn't answer":
				w.live(reloadLimit)
			case "a failover begins":
				w.machine.status.Phase = failover.PhaseFencing.String()
				w.prepared(w.children[1], "")
			}
			if !got.answered || got.err == nil || !strings.Contains(got.err.Error(), want) {
				t.Fatalf("%+v, want %q", got, want)
			}
			if w.s.gen != 1 || w.s.cfg.LogLevel != "info" {
				t.Error("a part of it is in effect")
			}
			for _, c := range w.children {
				if all := committed(c); slices.ContainsFunc(all, func(gen uint64) bool { return gen != 1 }) {
					t.Errorf("a worker was told %v", all)
				}
			}
			w.machine.status.Phase = failover.PhaseOpen.String()
			f.put("pgagroal_hba.conf", "host all all all trust\n")
			f.write("pgagroal.conf", "log_level = warn\n")
			again := w.reload()
			for _, c := range w.children {
				w.prepared(c, "")
			}
			if again.err != nil || w.s.cfg.LogLevel != "warn" {
				t.Errorf("the next reload: %+v", again)
			}
		})
	}
}

func TestFaultInAFileIsAnAlarmUntilItIsMended(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	f.write("pgagroal.conf", "max_pools = many\n")
	w.reload()
	f.write("pgagroal.conf", "")
	w.reload()
	for _, c := range w.children {
		w.prepared(c, "")
	}
	told := eventsOf[failover.Reconfigured](w)
	if len(told) != 2 || !strings.Contains(told[0].Problem, "max_pools") || told[0].Config != nil || told[1].Problem != "" {
		t.Errorf("the machine was told %+v", told)
	}
}

func TestWorkerThatDiesDuringAReloadIsNotWaitedFor(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	f.write("pgagroal.conf", "log_level = debug\n")
	got := w.reload()
	w.prepared(w.children[0], "")
	w.die(w.children[1])
	if !got.answered || got.err != nil {
		t.Fatalf("%+v", got)
	}
	w.advance(0)
	fresh := w.children[len(w.children)-1]
	w.say(fresh, &ipc.WorkerHello{Version: ipc.Version})
	begun := messagesOf[*ipc.ConfigBegin](fresh)
	if len(begun) != 1 || begun[0].Gen != 2 {
		t.Errorf("its successor was sent %d configurations", len(begun))
	}
}

func TestWorkerThatStartsDuringAReloadIsWaitedFor(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	w.die(w.children[1])
	w.advance(0)
	fresh := w.children[len(w.children)-1]
	f.write("pgagroal.conf", "log_level = debug\n")
	got := w.reload()
	w.say(fresh, &ipc.WorkerHello{Version: ipc.Version})
	w.prepared(w.children[0], "")
	if got.answered {
		t.Fatal("a worker with the old configuration is left")
	}
	fresh.message(&ipc.ConfigDone{Gen: 1})
	fresh.message(&ipc.ConfigDone{Gen: 2})
	w.settle()
	if !got.answered || got.err != nil || !slices.Equal(committed(fresh), []uint64{2}) {
		t.Errorf("%+v, told %v", got, committed(fresh))
	}
}

func TestLongConfigurationIsSentInParts(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	f.put("pgagroal_hba.conf", strings.Repeat("host all all all trust\n", 3*queueLimit))
	w.children[0].length = configPart
	got := w.reload()
	if n := len(messagesOf[*ipc.ConfigHBA](w.children[0])); n > 1 {
		t.Fatalf("a worker that reads nothing was sent %d lines more", n-1)
	}
	w.children[0].length = 0
	w.live(pingInterval)
	for _, c := range w.children {
		if n := len(messagesOf[*ipc.ConfigHBA](c)); n != 1+3*queueLimit {
			t.Errorf("%d lines were sent", n)
		}
		w.prepared(c, "")
	}
	if got.err != nil || !got.answered {
		t.Errorf("%+v", got)
	}
}

func TestLimitsOfAReloadCountTheLeasesThatThereAre(t *testing.T) {
	f := newFiles(t)
	f.put("pgagroal_databases.conf", "other all 1\ndb all 3\n")
	w := f.world()
	key := ipc.PoolKey{Database: "db", User: "u"}
	held := []uint64{w.lease(w.children[0], key), w.lease(w.children[0], key)}
	f.put("pgagroal_databases.conf", "db all 2\n")
	w.reload()
	for _, c := range w.children {
		w.prepared(c, "")
	}
	if c := w.s.ledger.Counts(); len(c.Rules) != 1 || c.Rules[0].Used != 2 || c.Rules[0].Max != 2 || c.Total != 2 {
		t.Fatalf("%+v", c)
	}
	w.say(w.children[0], &ipc.LeaseRequest{ID: 77, Key: key})
	if g := messagesOf[*ipc.LeaseGrant](w.children[0]); g[len(g)-1].ID == 77 {
		t.Error("a lease above the new limit")
	}
	w.say(w.children[0], &ipc.LeaseReturn{Lease: held[0]})
	if g := messagesOf[*ipc.LeaseGrant](w.children[0]); g[len(g)-1].ID != 77 {
		t.Error("the client that waited over the reload was forgotten")
	}
}

func TestSecretDerivedFromAnOldPasswordIsNotGiven(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) { c.Users = []config.Credential{{Name: "u", Password: "old"}} })
	w.question = ipc.Question{Method: ipc.LoginSCRAM, Salt: "salt salt", Iterations: 4096}
	w.up()
	before, changes := w.s.env.background, 0
	w.s.env.background = func(work func() func()) {
		before(func() func() {
			done := work()
			changes++
			w.s.cfg.Users[0].Password = config.Secret(fmt.Sprint("new ", changes))
			return done
		})
	}
	w.say(w.children[0], &ipc.SecretRequest{ID: 1, User: "u", Database: "d", Question: w.question})
	got := messagesOf[*ipc.SecretAnswer](w.children[0])
	if len(got) != 1 || got[0].Error != "the password has changed meanwhile" || got[0].Secret != "" {
		t.Errorf("%d answers, error %q", len(got), got[0].Error)
	}
}

func TestClientOfAnAliasThatIsGoneIsServed(t *testing.T) {
	f := newFiles(t)
	f.put("pgagroal_databases.conf", "db=store all 3\n")
	w := f.world()
	f.put("pgagroal_databases.conf", "db all 3\n")
	w.reload()
	for _, c := range w.children {
		w.prepared(c, "")
	}
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: ipc.PoolKey{Database: "db", User: "u"}, Requested: "store"})
	if g := messagesOf[*ipc.LeaseGrant](w.children[0]); len(g) != 1 || w.children[0].killed {
		t.Errorf("%d leases, killed: %v", len(g), w.children[0].killed)
	}
}

func TestNameOfAnotherDatabaseDoesNotChooseTheRule(t *testing.T) {
	f := newFiles(t)
	f.put("pgagroal_databases.conf", "db all 1\nfree all 3\n")
	w := f.world()
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: ipc.PoolKey{Database: "db", User: "u"}, Requested: "free"})
	if c := w.s.ledger.Counts(); c.Rules[0].Used != 1 || c.Rules[1].Used != 0 {
		t.Errorf("%+v", c.Rules)
	}
}

func TestNarrowerRuleCountsWhatAWiderOneHasCounted(t *testing.T) {
	f := newFiles(t)
	f.put("pgagroal_databases.conf", "all all 4\n")
	w := f.world()
	key := ipc.PoolKey{Database: "shop", User: "app"}
	w.lease(w.children[0], key)
	w.lease(w.children[0], key)
	f.put("pgagroal_databases.conf", "all all 2\nshop app 2\n")
	w.reload()
	for _, c := range w.children {
		w.prepared(c, "")
	}
	if c := w.s.ledger.Counts(); c.Rules[1].Used != 2 || c.Rules[0].Used != 0 {
		t.Errorf("%+v", c.Rules)
	}
}

func TestUsersWhosePasswordStaysKeepTheirVerifier(t *testing.T) {
	c := config.New()
	c.Users = []config.Credential{{Name: "same", Password: "p"}, {Name: "other", Password: "old"}}
	salt := newSalt()
	before, err := newGeneration(1, c, salt, nil)
	if err != nil {
		t.Fatal(err)
	}
	next := *c
	next.Users = []config.Credential{{Name: "same", Password: "p"}, {Name: "other", Password: "new"}}
	before.users[0].Verifier = "marked"
	after, err := newGeneration(2, &next, salt, before)
	if err != nil {
		t.Fatal(err)
	}
	if after.users[0].Verifier != "marked" || after.users[1].Verifier == before.users[1].Verifier {
		t.Error("the wrong verifiers were derived anew")
	}
}

func TestLooksOfAReplacedProberAreRepeated(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.prober.mute = true
	w.probeOnce(7)
	first := w.prober
	w.s.replaceAide(&w.s.servers.prober.aide)
	w.s.repeatLooks()
	first.exited("signal: killed")
	w.advance(0)
	if w.prober == first {
		t.Fatal("there is no other prober")
	}
	if seen := w.lastProbe(); seen.ID != 7 || seen.Outcome != failover.SawRefused {
		t.Errorf("%+v", seen)
	}
}

func TestConsoleIsReplacedWhenWhatItKnowsHasChanged(t *testing.T) {
	f := newFiles(t)
	f.write("pgagroal.conf", "metrics = 5001\n")
	w := f.world()
	w.s.startAide(&w.s.console.aide)
	w.settle()
	console := w.greetedConsole()
	again := func(lines string) {
		f.write("pgagroal.conf", "metrics = 5001\n"+lines)
		w.reload()
		for _, c := range w.children {
			if len(messagesOf[*ipc.ConfigBegin](c)) > 0 {
				w.prepared(c, "")
			}
		}
	}
	again("max_pools = 7\n")
	if console.killed || w.s.cfg.MaxPools != 7 {
		t.Fatalf("killed %v although nothing concerns it, max_pools %d", console.killed, w.s.cfg.MaxPools)
	}
	again("max_pools = 7\nmetrics_detail = server\n")
	if !console.killed {
		t.Error("it goes on with the old configuration")
	}
}

// A credential that the service manager passes stays what it was at the start, and a reload says so.
func TestReloadSaysThatCredentialsNeedARestart(t *testing.T) {
	f := newFiles(t)
	cert := filepath.Join(f.dir, "passed", "cert")
	f.write("pgagroal.conf", "tls_cert_file = "+cert+"\n")
	w := f.world()
	var log bytes.Buffer
	w.s.log = slog.New(slog.NewTextHandler(&log, nil))
	const says = "a changed one needs a restart"
	reload := func() []string {
		o := w.reload()
		for _, c := range w.children[:2] {
			w.prepared(c, "")
		}
		if !o.answered || o.err != nil {
			t.Fatalf("%+v", o)
		}
		return o.response.Credentials
	}
	if got := reload(); len(got) != 0 || strings.Contains(log.String(), says) {
		t.Errorf("without credentials: %q: %s", got, &log)
	}
	t.Setenv(config.CredentialsVariable, filepath.Dir(cert))
	if got := reload(); !slices.Equal(got, []string{cert}) || !strings.Contains(log.String(), says+`" files=`+cert) {
		t.Errorf("with one: %q: %s", got, &log)
	}
}
