package supervisor

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const passphrase, salt = "of the test", "sixteen bytes..."

// masterKey is derived once, because that is slow.
var masterKey = sync.OnceValues(func() (*config.MasterKey, error) { return config.NewMasterKey(passphrase, []byte(salt)) })

// entries returns the text of a users file with the user u, and makes the master key.
func (f *files) entries(password config.Secret) string {
	f.t.Helper()
	k, err := masterKey()
	if err != nil {
		f.t.Fatal(err)
	}
	blob, err := k.Encrypt(password)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, "key"), 0o700); err != nil {
		f.t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	f.put(filepath.Join("key", "master.key"), b64([]byte(passphrase))+"\n"+b64([]byte(salt))+"\n")
	return "u:" + blob + "\n"
}

// replace puts a new file in the place of a file, as careful programs do.
func (f *files) replace(name, text string) {
	f.t.Helper()
	f.put(name+".new", text)
	if err := os.Rename(filepath.Join(f.dir, name+".new"), filepath.Join(f.dir, name)); err != nil {
		f.t.Fatal(err)
	}
}

// following starts a supervisor that follows a users file with the password "old".
func following(t *testing.T, more string) (*files, *world) {
	f := newFiles(t)
	f.write("pgagroal.conf", more)
	f.put("pgagroal_users.conf", f.entries("old"))
	w := f.world()
	w.s.lookSoon()
	w.live(3 * followInterval)
	if w.s.gen != 1 || w.s.reload.busy || len(begunOf(w)) != 2 {
		t.Fatal("files that have not changed are in effect a second time")
	}
	return f, w
}

// begunOf returns the configurations that workers were sent.
func begunOf(w *world) []*ipc.ConfigBegin {
	var all []*ipc.ConfigBegin
	for _, c := range w.children {
		all = append(all, messagesOf[*ipc.ConfigBegin](c)...)
	}
	return all
}

func (w *world) allPrepared() {
	for _, c := range w.children {
		w.prepared(c, "")
	}
}

func TestNewPasswordsAreInEffectWithoutAReload(t *testing.T) {
	f, w := following(t, "")
	w.s.service.ready = true
	told := len(w.notified)
	f.write("pgagroal.conf", "log_level = debug\n")
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(followInterval)
	if len(begunOf(w)) != 2 {
		t.Fatal("a file that may still be written is read")
	}
	w.live(followInterval)
	w.prepared(w.children[0], "")
	if got := w.s.serverPassword("u"); got != "old" {
		t.Fatalf("%s is in effect before all workers can use it", got)
	}
	w.prepared(w.children[1], "")
	if got := w.s.serverPassword("u"); got != "new" || w.s.gen < 2 {
		t.Errorf("generation %d, password %s", w.s.gen, got)
	}
	if w.s.cfg.LogLevel != "info" {
		t.Error("a change of another file is in effect, too")
	}
	if all := strings.Join(w.notified[told:], " "); strings.Contains(all, "READY") || strings.Contains(all, "RELOADING") {
		t.Errorf("the service manager was told %s", all)
	}
	w.live(5 * followInterval)
	if n := len(begunOf(w)); n != 4 {
		t.Errorf("workers were sent %d configurations", n)
	}
}

func TestDamagedCredentialsAreAnAlarmUntilTheFileIsMended(t *testing.T) {
	for name, text := range map[string]string{"half written": "u:SGFsZg==\n", "empty": "", "as it was": ""} {
		t.Run(name, func(t *testing.T) {
			f, w := following(t, "")
			was, err := os.ReadFile(filepath.Join(f.dir, "pgagroal_users.conf"))
			if err != nil {
				t.Fatal(err)
			}
			f.put("pgagroal_users.conf", text)
			w.live(10 * followInterval)
			told := eventsOf[failover.Reconfigured](w)
			if len(told) != 1 || !strings.Contains(told[0].Problem, "pgagroal_users.conf") || told[0].Config != nil {
				t.Fatalf("the machine was told %+v", told)
			}
			if w.s.serverPassword("u") != "old" || w.s.gen != 1 {
				t.Error("the old entries are not in effect any more")
			}
			want := "new"
			if name == "as it was" {
				want = "old"
				f.put("pgagroal_users.conf", string(was))
			} else {
				f.put("pgagroal_users.conf", f.entries("new"))
			}
			w.live(2 * followInterval)
			w.allPrepared()
			told = eventsOf[failover.Reconfigured](w)
			if len(told) != 2 || told[1].Problem != "" || w.s.serverPassword("u") != config.Secret(want).Reveal() {
				t.Errorf("the machine was told %+v, password %s", told, w.s.serverPassword("u"))
			}
		})
	}
}

func TestAlarmOfARefusedReloadOutlivesNewPasswords(t *testing.T) {
	f, w := following(t, "")
	f.write("pgagroal.conf", "max_pools = many\n")
	w.reload()
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(2 * followInterval)
	w.allPrepared()
	told := eventsOf[failover.Reconfigured](w)
	if len(told) != 2 || !strings.Contains(told[1].Problem, "max_pools") || told[1].Config == nil || w.s.serverPassword("u") != "new" {
		t.Errorf("the machine was told %+v, password %s", told, w.s.serverPassword("u"))
	}
}

func TestNewPasswordsWaitForTheEndOfAFailover(t *testing.T) {
	f, w := following(t, "")
	w.machine.status.Phase = failover.PhaseFencing.String()
	f.replace("pgagroal_users.conf", f.entries("new"))
	before := w.s.reload.last
	w.live(5 * followInterval)
	if len(begunOf(w)) != 2 || w.s.reload.last != before {
		t.Fatal("the files are read during a failover")
	}
	w.machine.status.Phase = failover.PhaseOpen.String()
	w.live(2 * followInterval)
	w.machine.status.Phase = failover.PhaseFencing.String()
	w.allPrepared()
	if w.s.serverPassword("u") != "old" {
		t.Fatal("they are in effect during a failover")
	}
	w.machine.status.Phase = failover.PhaseOpen.String()
	w.live(2 * followInterval)
	w.allPrepared()
	if w.s.serverPassword("u") != "new" {
		t.Error("they are forgotten")
	}
}

func TestNewPasswordsAreTriedAgainWhenAWorkerHasNotAnswered(t *testing.T) {
	f, w := following(t, "")
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(2*followInterval + reloadLimit)
	if told := eventsOf[failover.Reconfigured](w); len(told) != 1 || !strings.Contains(told[0].Problem, "no answer within 10s from worker 0, worker 1") {
		t.Errorf("the machine was told %+v", told)
	}
	w.live(2 * followInterval)
	w.allPrepared()
	if w.s.serverPassword("u") != "new" {
		t.Error("they are forgotten")
	}
	if told := eventsOf[failover.Reconfigured](w); len(told) != 2 || told[1].Problem != "" {
		t.Errorf("the machine was told %+v", told)
	}
}

func TestFollowCredentialFilesOffFollowsNothing(t *testing.T) {
	f, w := following(t, "follow_credential_files = off\n")
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(5 * followInterval)
	if len(begunOf(w)) != 2 {
		t.Error("a file was read")
	}
}

func TestReloadWaitsForNewPasswords(t *testing.T) {
	f, w := following(t, "")
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(2 * followInterval)
	f.write("pgagroal.conf", "log_level = debug\n")
	got := w.reload()
	if got.answered {
		t.Fatalf("it is answered at once: %v", got.err)
	}
	w.allPrepared()
	w.allPrepared()
	if !got.answered || got.err != nil || w.s.cfg.LogLevel != "debug" || w.s.serverPassword("u") != "new" {
		t.Errorf("%+v, log_level %s", got, w.s.cfg.LogLevel)
	}
}

// The runner reads the main file, in which changes may wait for a reload.
func TestNewPasswordsDoNotConcernTheRunner(t *testing.T) {
	f, w := following(t, "failover = on\nfailover_script = /script\n")
	r := w.runnerUp()
	f.replace("pgagroal_users.conf", f.entries("new"))
	w.live(2 * followInterval)
	for _, c := range w.children[:2] {
		w.prepared(c, "")
	}
	if n := len(messagesOf[*ipc.RunnerConfigure](r)); n != 1 || w.s.serverPassword("u") != "new" {
		t.Errorf("the runner was asked %d times, password %s", n, w.s.serverPassword("u"))
	}
	if !w.s.runner.end.agrees {
		t.Error("the runner is not believed any more")
	}
}
