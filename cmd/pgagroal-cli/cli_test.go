package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got)\n%s", name, d)
	}
}

func TestDocumentsLookAsTheyAlwaysDid(t *testing.T) {
	sup := &fake{history: []json.RawMessage{json.RawMessage(`{"reason":"refused","system":7523456789012345678,"run":{"exit":0,"output":"promoting\nserver promoted\n"},"candidates":["two","three"]}`)}}
	path := listen(t, sup, 0)
	for name, args := range map[string][]string{
		"ping.txt":              {"ping"},
		"ping.json":             {"ping", "-F", "json"},
		"ping.raw":              {"ping", "-F", "raw"},
		"status.txt":            {"status"},
		"status.raw":            {"status", "-Fraw"},
		"status-details.txt":    {"status", "details"},
		"status-details.json":   {"status", "details", "--format=json"},
		"conf-ls.txt":           {"conf", "ls"},
		"conf-get.txt":          {"conf", "get"},
		"conf-get-key.json":     {"conf", "get", "port", "-F", "json"},
		"conf-set.txt":          {"conf", "set", "idle_timeout", "9s"},
		"conf-set.json":         {"conf", "set", "idle_timeout", "9s", "--persist", "-F", "json"},
		"conf-reset.txt":        {"conf", "reset", "idle_timeout"},
		"failover-status.txt":   {"failover", "status"},
		"failover-history.txt":  {"failover", "history"},
		"failover-rehearse.txt": {"failover", "rehearse"},
		"failover-trigger.txt":  {"failover", "trigger", "--to", "two"},
		"flush.txt":             {"flush", "all", "shop"},
		"shutdown.txt":          {"shutdown", "-T", "5m"},
		"switch-to.json":        {"switch-to", "two", "--force", "-F", "json"},
	} {
		if strings.HasSuffix(name, ".txt") {
			args = append(args, "--format", "tree")
		}
		got := invoke(append(args, "--socket", path)...)
		if got.code != control.ExitOK || got.errors != "" {
			t.Errorf("%s: exit code %d, %q", name, got.code, got.errors)
		}
		golden(t, name, steady(got.out))
	}
}

func TestRefusedCommandPrintsItsDocument(t *testing.T) {
	path := listen(t, &fake{fail: errors.New("a run is going on")}, 0)
	got := invoke("switch-to", "two", "--socket", path, "-F", "tree")
	golden(t, "refused.txt", steady(got.out))
	if people := invoke("switch-to", "two", "--socket", path); people.out != "" || people.errors != got.errors {
		t.Errorf("as text: %q, %q", people.out, people.errors)
	}
	if got.code != control.ExitFailed || got.errors != "pgagroal-cli: switch-to: a run is going on\n" {
		t.Errorf("exit code %d, %q", got.code, got.errors)
	}
}

func TestOptionsAndWordsMixInAnyOrder(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"shutdown"}, "shutdown gracefully"},
		{[]string{"shutdown", "gracefully"}, "shutdown gracefully"},
		{[]string{"-T", "0", "shutdown"}, "shutdown gracefully 0s"},
		{[]string{"shutdown", "-T2h", "gracefully"}, "shutdown gracefully 2h0m0s"},
		{[]string{"shutdown", "--timeout", "1W"}, "shutdown gracefully 168h0m0s"},
		{[]string{"shutdown", "immediate"}, "shutdown immediate"},
		{[]string{"shutdown", "-F", "json", "cancel"}, "shutdown cancel"},
		{[]string{"--force", "switch-to", "two"}, "switch-to two true"},
		{[]string{"switch-to", "--fo=json", "two"}, ""},
		{[]string{"switch-to", "--form", "json", "two"}, "switch-to two false"},
		{[]string{"switch-to", "--", "-two"}, "switch-to -two false"},
		{[]string{"switch-to", "two", "-T", "2m"}, "switch-to two false 2m0s"},
		{[]string{"switch-to", "help"}, "switch-to help false"},
		{[]string{"disable"}, "database all true"},
		{[]string{"disable", "*"}, "database * true"},
		{[]string{"enable", "all"}, "database all false"},
		{[]string{"enable", "shop", "-F", "raw"}, "database shop false"},
		{[]string{"flush"}, "flush gracefully all default"},
		{[]string{"flush", "gracefully"}, "flush gracefully all default"},
		{[]string{"flush", "shop", "-T", "0"}, "flush gracefully shop 0s"},
		{[]string{"flush", "-T", "30", "gracefully", "shop"}, "flush gracefully shop 30s"},
		{[]string{"flush", "idle"}, "flush idle all default"},
		{[]string{"flush", "all"}, "flush all all default"},
		{[]string{"flush", "all", "shop"}, "flush all shop default"},
		{[]string{"flush", "gracefully", "idle"}, "flush gracefully idle default"},
		{[]string{"pause"}, "pause /all default"},
		{[]string{"pause", "-T", "5", "shop"}, "pause /shop 5s"},
		{[]string{"pause", "server", "one"}, "pause one/ default"},
		{[]string{"resume"}, "resume /all"},
		{[]string{"resume", "shop"}, "resume /shop"},
		{[]string{"clients"}, "clients"},
		{[]string{"servers", "-F", "raw"}, "servers"},
		{[]string{"pools"}, "pools"},
		{[]string{"kick", "7"}, "kick 7"},
		{[]string{"kick", "18446744073709551615"}, "kick 18446744073709551615"},
		{[]string{"events"}, "events 0"},
		{[]string{"events", "7", "-F", "json"}, "events 7"},
		{[]string{"clear", "prometheus"}, "clear figures"},
		{[]string{"clear", "two"}, "clear two false"},
		{[]string{"clear", "server", "two", "--force"}, "clear two true"},
		{[]string{"clear", "server", "server"}, "clear server false"},
		{[]string{"clear", "server", "prometheus"}, "clear prometheus false"},
		{[]string{"failover", "history", "7"}, "failover history 7"},
		{[]string{"-vFjson", "failover", "status"}, "failover status"},
		{[]string{"failover", "pause"}, "failover pause  false"},
		{[]string{"failover", "resume", "-F", "raw"}, "failover resume  false"},
		{[]string{"failover", "reset"}, "failover reset  false"},
		{[]string{"failover", "trigger"}, "failover trigger  false"},
		{[]string{"failover", "--to", "two", "trigger", "--force"}, "failover trigger two true"},
	} {
		sup := &fake{}
		got := invoke(append([]string{"--socket", listen(t, sup, 0)}, tt.args...)...)
		if sup.seen() != tt.want {
			t.Errorf("%q called %q, want %q (%s)", tt.args, sup.seen(), tt.want, got.errors)
		}
		if (got.code == control.ExitOK) != (tt.want != "") {
			t.Errorf("%q: exit code %d", tt.args, got.code)
		}
	}
}

func TestWrongUseIsRefusedBeforeAnythingIsSent(t *testing.T) {
	sup := &fake{}
	path := listen(t, sup, 0)
	for _, line := range []string{
		"", "nope", "help", "ping now", "status more", "status details more", "shutdown now", "shutdown gracefully immediate",
		"switch-to", "switch-to a b", "clear", "clear server", "clear server a b", "clear a b", "flush a b", "clients x", "pools x", "servers x", "kick", "kick x", "kick 1 2", "kick -T 5 1", "pause server", "pause a b", "pause server a b", "resume -T 5", "resume server", "flush idle a b", "flush all -T 5", "clear prometheus x", "clear prometheus -T 5", "enable a b", "disable a b", "conf", "conf ls a", "conf get a b", "conf set a", "conf set a b c", "conf reset", "conf alias a", "conf get --persist",
		"failover", "failover history 0", "failover history x", "failover history -1", "failover status x",
		"failover pause x", "failover trigger two", "failover pause --force", "failover pause --to two", "failover trigger --to=", "status --to two",
		"status --primary", "failover status --write", "ping --write=maybe", "top now", "top -F json", "top --force", "status --once", "ping -F yaml", "ping --color", "ping --color=red", "ping -x", "ping --nope", "ping --format", "ping -F", "ping --force", "status --force=yes",
		"shutdown -T 5y", "shutdown -T -1", "shutdown -T", "shutdown -T 1ms", "shutdown -T 99999999w", "ping -T 5", "shutdown immediate -T 5",
		"ping --f", "ping -c file", "events x", "events 0", "events 1 2", "events --follow -F raw", "clients --follow", "events -T 5",
	} {
		got := invoke(append([]string{"--socket", path}, strings.Fields(line)...)...)
		if got.code != control.ExitFailed || got.out != "" || !strings.Contains(got.errors, "--help") {
			t.Errorf("%q: exit code %d, output %q, %q", line, got.code, got.out, got.errors)
		}
	}
	if sup.seen() != "" {
		t.Errorf("the supervisor saw %q", sup.seen())
	}
}

func TestOptionsOfRemoteManagementBelongTogether(t *testing.T) {
	sup := &fake{}
	path := listen(t, sup, 0)
	for _, line := range []string{
		"ping -h host", "ping -p 5", "ping -U admin", "ping -P s3cret", "ping -C gz", "ping -E aes", "ping --tls off", "ping --tls-ca file",
		"ping --host h --port 1", "ping -h h -p 0", "ping -h h -p x", "ping -h h -p 1 --tls on -U u -P s3cret",
	} {
		got := invoke(append([]string{"--socket", path}, strings.Fields(line)...)...)
		if got.code != control.ExitFailed || !strings.Contains(got.errors, "--help") || strings.Contains(got.errors, "s3cret") {
			t.Errorf("%q: exit code %d, %q", line, got.code, got.errors)
		}
	}
	if sup.seen() != "" {
		t.Errorf("the supervisor saw %q", sup.seen())
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		name string
		sup  *fake
		uid  uint32
		args []string
		want int
	}{
		{"ping with a dead standby", &fake{}, 0, []string{"ping"}, control.ExitOK},
		{"ping without a primary", &fake{primaryDown: true}, 0, []string{"ping"}, control.ExitOK},
		{"ping for a primary", &fake{}, 0, []string{"ping", "--primary"}, control.ExitOK},
		{"ping for a primary without one", &fake{primaryDown: true}, 0, []string{"ping", "--primary"}, control.ExitNoPrimary},
		{"ping for writes", &fake{}, 0, []string{"ping", "--write"}, control.ExitOK},
		{"ping for writes while clients are held", &fake{held: true}, 0, []string{"--write", "ping"}, control.ExitNoPrimary},
		{"ping for a primary while clients are held", &fake{held: true}, 0, []string{"ping", "--primary"}, control.ExitOK},
		{"status without a primary", &fake{primaryDown: true}, 0, []string{"status"}, control.ExitOK},
		{"rehearsal that goes well", &fake{}, 0, []string{"failover", "rehearse"}, control.ExitOK},
		{"rehearsal that doesn't", &fake{unwell: true}, 0, []string{"failover", "rehearse"}, control.ExitFailed},
		{"failed ping", &fake{fail: errors.New("x")}, 0, []string{"ping"}, control.ExitFailed},
		{"unknown key", &fake{}, 0, []string{"conf", "get", "nope"}, control.ExitFailed},
		{"unknown key in json", &fake{}, 0, []string{"conf", "get", "nope", "-F", "json"}, control.ExitFailed},
		{"stranger looks", &fake{}, 4242, []string{"status"}, control.ExitOK},
		{"stranger stops", &fake{}, 4242, []string{"shutdown", "immediate"}, control.ExitFailed},
		{"version", &fake{}, 0, []string{"-V"}, control.ExitOK},
		{"help", &fake{}, 0, []string{"-?"}, control.ExitOK},
		{"help of a command", &fake{}, 0, []string{"status", "--help"}, control.ExitOK},
	} {
		got := invoke(append(tt.args, "--socket", listen(t, tt.sup, tt.uid))...)
		if got.code != tt.want {
			t.Errorf("%s: exit code %d, want %d (%s)", tt.name, got.code, tt.want, got.errors)
		}
		if (got.errors != "") != (tt.want != control.ExitOK) {
			t.Errorf("%s: standard error is %q", tt.name, got.errors)
		}
	}
}

func TestUnreachableIsTwo(t *testing.T) {
	got := invoke("ping", "--socket", filepath.Join(t.TempDir(), "none"))
	if got.code != control.ExitUnreachable || got.out != "" || !strings.Contains(got.errors, "no such file") {
		t.Errorf("no socket: %+v", got)
	}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if sock, err := ln.AcceptUnix(); err == nil {
			sock.Close()
		}
	}()
	got = invoke("ping", "--socket", path)
	<-done
	ln.Close()
	if got.code != control.ExitUnreachable || got.out != "" {
		t.Errorf("closed without an answer: %+v", got)
	}
}

func TestConfigurationNamesTheSocket(t *testing.T) {
	path := listen(t, &fake{}, 0)
	file := filepath.Join(t.TempDir(), "pgagroal.conf")
	text := fmt.Sprintf("[pgagroal]\nhost = *\nport = 2345\nunix_socket_dir = %s\n[one]\nhost = localhost\nport = 5432\n", filepath.Dir(path))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := invoke("ping", "-c", file); got.code != control.ExitOK {
		t.Errorf("%+v", got)
	}
	if got := invoke("ping", "-c", file+".none"); got.code != control.ExitFailed || !strings.Contains(got.errors, "--socket") {
		t.Errorf("no configuration: %+v", got)
	}
}

func TestConfGetPrintsTheValueAlone(t *testing.T) {
	path := listen(t, &fake{}, 0)
	for key, want := range map[string]string{
		"port": "2345\n", "blocking_timeout": "30s\n", "pidfile": "\n", "nope": "Error\n",
		"hba": "NAME  METHOD  TYPE\nall   trust   host\n",
	} {
		if got := invoke("conf", "get", key, "--socket", path); got.out != want {
			t.Errorf("%s: %q, want %q", key, got.out, want)
		}
	}
	if got := invoke("conf", "get", "hba", "-Ftree", "--socket", path); got.out != "all:\n  method: trust\n  type: host\n" {
		t.Errorf("hba as a tree: %q", got.out)
	}
}

func TestVerboseEndsWithTheOutcome(t *testing.T) {
	path := listen(t, &fake{}, 0)
	log := filepath.Join(t.TempDir(), "log")
	if got := invoke("-v", "ping", "--socket", path); got.errors != "Success (0)\n" {
		t.Errorf("%q", got.errors)
	}
	got := invoke("ping", "--verbose", "-L", log, "--socket", path+".none")
	if !strings.HasSuffix(got.errors, "\nError (2)\n") {
		t.Errorf("%q", got.errors)
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "can't be reached") {
		t.Errorf("log %q, %v", text, err)
	}
}

func TestLargeAnswerArrivesWhole(t *testing.T) {
	entry, err := json.Marshal(map[string]string{"output": strings.Repeat("0123456789", 50_000)})
	if err != nil {
		t.Fatal(err)
	}
	got := invoke("failover", "history", "-F", "json", "--socket", listen(t, &fake{history: []json.RawMessage{entry}}, 0))
	var doc struct {
		Response struct{ History []map[string]string }
	}
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Response.History[0]["output"]); n != 500_000 {
		t.Errorf("%d bytes", n)
	}
}

func TestBuiltProgram(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "pgagroal-cli")
	if out, err := exec.Command("go", "build", "-ldflags", "-X github.com/pgagroal-go/pgagroal/internal/release.version=7.8", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(bin, "status", "--format", "json", "--socket", listen(t, &fake{}, 0)).Output()
	if err != nil || !strings.Contains(string(out), `"ClientVersion": "7.8"`) {
		t.Errorf("%v\n%s", err, out)
	}
	var exit *exec.ExitError
	if err := exec.Command(bin, "ping", "--socket", bin+".none").Run(); !errors.As(err, &exit) || exit.ExitCode() != control.ExitUnreachable {
		t.Errorf("without pgagroal: %v", err)
	}
	if out, err := exec.Command(bin, "--version").Output(); err != nil || !strings.HasPrefix(string(out), "pgagroal-cli 7.8 (go") {
		t.Errorf("version: %q, %v", out, err)
	}
}
