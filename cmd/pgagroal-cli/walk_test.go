package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// The tables of this file are the command line and the documents of pgagroal-cli in
// pgagroal 2.2: scripts and monitoring that were written for it must go on working.

// full is a supervisor whose answers have every field.
type full struct{ *fake }

func (full) Ping(context.Context) (control.PingResponse, error) {
	return control.PingResponse{Servers: map[string]control.PingServer{"two": {Host: "h", Port: 1, Status: control.ServerRunning, Primary: control.PrimaryNo, Behind: bytesOf(1)}}}, nil
}

func (f full) Status(ctx context.Context) (control.StatusResponse, error) {
	r, err := f.StatusDetails(ctx)
	return r.StatusResponse, err
}

func (full) StatusDetails(context.Context) (control.StatusDetailsResponse, error) {
	r := details()
	r.SplitBrain = control.SplitBrainYes
	s := r.Servers["orders2"]
	s.SystemIdentifier = "7523456789012345678"
	r.Servers = map[string]control.Server{"orders2": s}
	return r, nil
}

// walked is a command of pgagroal 2.2.
type walked struct {
	line    string
	command string // Header.Command
	number  string // Header.Command in the raw format
	// fields are paths of members that the JSON document has; * is any key or index.
	fields string
}

const (
	pingFields    = "Servers.*.Host Servers.*.Port Servers.*.Status Servers.*.Primary Servers.*.Behind"
	statusFields  = "Status ActiveConnections TotalConnections MaxConnections NumberOfServers SplitBrain Servers.*.Server Servers.*.Host Servers.*.Port Servers.*.State Servers.*.Health Servers.*.MajorVersion Servers.*.SystemIdentifier Servers.*.Status Servers.*.Primary Servers.*.Behind Standbys.*.Streaming Standbys.*.WALReceiverStatus Standbys.*.SlotName Standbys.*.PrimaryHost Standbys.*.PrimaryPort"
	detailsFields = statusFields + " Limits.*.Database Limits.*.Username Limits.*.ActiveConnections Limits.*.MaxConnections Limits.*.InitialConnections Limits.*.MinConnections Databases.*.Database Databases.*.Enabled Connections.*.State Connections.*.StartTime Connections.*.Timestamp Connections.*.PID Connections.*.FD Connections.*.Database Connections.*.Username Connections.*.AppName"
	filesFields   = "main_configuration_path hba_configuration_path limit_configuration_path users_configuration_path frontend_users_configuration_path admin_configuration_path superuser_configuration_path"
)

var walk = []walked{
	{"ping", "ping", "11", pingFields},
	{"status", "status", "16", statusFields},
	{"status details", "status-details", "5", detailsFields},
	{"enable", "enable-db", "7", "Databases.*.Database Databases.*.Enabled"},
	{"enable db", "enable-db", "7", "Databases.*.Database Databases.*.Enabled"},
	{"disable", "disable-db", "6", "Databases.*.Database Databases.*.Enabled"},
	{"disable *", "disable-db", "6", "Databases.*.Database Databases.*.Enabled"},
	{"disable db", "disable-db", "6", "Databases.*.Database Databases.*.Enabled"},
	{"shutdown", "shutdown-gracefully", "10", ""},
	{"shutdown gracefully", "shutdown-gracefully", "10", ""},
	{"-T 30 shutdown gracefully", "shutdown-gracefully", "10", ""},
	{"shutdown immediate", "shutdown", "15", ""},
	{"shutdown cancel", "cancel-shutdown", "1", ""},
	{"switch-to two", "switch-to", "17", ""},
	{"flush", "flush", "8", ""},
	{"flush db", "flush", "8", ""},
	{"flush gracefully", "flush", "8", ""},
	{"-T 30 flush gracefully db", "flush", "8", ""},
	{"flush idle", "flush", "8", ""},
	{"flush idle db", "flush", "8", ""},
	{"flush all", "flush", "8", ""},
	{"flush all db", "flush", "8", ""},
	{"clear prometheus", "clear", "13", ""},
	{"conf reload", "reload", "12", "Restart"},
	{"conf ls", "conf-ls", "2", filesFields},
	{"conf get", "conf-get", "3", "port hba.*.method blocking_timeout.value blocking_timeout.string_value"},
	{"conf get port", "conf-get", "3", "port"},
	{"conf set log_level debug", "conf-set", "4", "status message config_key old_value new_value restart_required"},
	{"conf set port 1", "conf-set", "4", "status message config_key current_value requested_value restart_required"},
	{"conf alias", "conf-alias", "18", "Databases.*.username Databases.*.max_size Databases.*.initial_size Databases.*.min_size Databases.*.aliases"},
	{"clear two", "clear-server", "14", ""},
	{"clear server two", "clear-server", "14", ""},
	{"clear prometheus", "clear", "13", ""},
	{"flush", "flush", "8", ""},
	{"flush db", "flush", "8", ""},
	{"flush gracefully", "flush", "8", ""},
	{"-T 30 flush gracefully db", "flush", "8", ""},
	{"flush idle", "flush", "8", ""},
	{"flush idle db", "flush", "8", ""},
	{"flush all", "flush", "8", ""},
	{"flush all db", "flush", "8", ""},
}

// missing are the options of pgagroal 2.2 that this version doesn't have.
var missing = []string{"ping -C gz", "ping --compress zstd", "ping -E aes256gcm", "ping --encrypt aes"}

// options are those that every command takes.
var options = []string{"-F json", "--format json", "-Fjson", "-F raw", "-F text", "-v", "--verbose", "-L /dev/null", "--logfile /dev/null", "-C none", "--encrypt none"}

func TestEveryCommandOfCIsThere(t *testing.T) {
	path := listen(t, full{&fake{}}, 0)
	for _, w := range walk {
		args := append(strings.Fields(w.line), "--socket", path)
		got := invoke(append(args, "-F", "json")...)
		if got.code != control.ExitOK || got.errors != "" {
			t.Errorf("%s: exit code %d, %s", w.line, got.code, got.errors)
			continue
		}
		doc := decoded(t, got.out)
		want := "Header.ClientVersion Header.Output Header.Timestamp Header.Compression Header.Encryption Request Outcome.Status Outcome.Time"
		if has(doc, "Response") {
			want += " Response.ServerVersion"
		}
		for f := range strings.FieldsSeq(w.fields) {
			want += " Response." + f
		}
		for f := range strings.FieldsSeq(want) {
			if !has(doc, f) {
				t.Errorf("%s: no field %s in\n%s", w.line, f, got.out)
			}
		}
		if command := doc["Header"].(map[string]any)["Command"]; command != w.command {
			t.Errorf("%s: the command is %v, want %s", w.line, command, w.command)
		}
		raw := decoded(t, invoke(append(args, "-F", "raw")...).out)
		if n := raw["Header"].(map[string]any)["Command"]; n != json.Number(w.number) {
			t.Errorf("%s: the number is %v, want %s", w.line, n, w.number)
		}
	}
	for _, o := range options {
		if got := invoke(append(strings.Fields("status "+o), "--socket", path)...); got.code != control.ExitOK {
			t.Errorf("status %s: %+v", o, got)
		}
	}
}

func TestWhatCHasAndIsMissingHereIsListed(t *testing.T) {
	path := listen(t, full{&fake{}}, 0)
	for _, line := range missing {
		got := invoke(append(strings.Fields(line), "--socket", path)...)
		if got.code != control.ExitFailed || !strings.Contains(got.errors, "isn't available here") {
			t.Errorf("%s isn't missing any more, so it belongs to walk: %+v", line, got)
		}
	}
}

// TestExitCodesOfC has the cases whose code is that of pgagroal 2.2. Where it differs, the
// manual and TestExitCodes have it.
func TestExitCodesOfC(t *testing.T) {
	path := listen(t, full{&fake{}}, 0)
	for line, want := range map[string]int{
		"status": 0, "conf get port": 0, "conf get nope": 1, "nope": 1, "switch-to": 1, "status x": 1, "": 1,
		"-F yaml status": 1, "-T never shutdown": 1, "--nope status": 1,
		"-h host status": 1, "-p 2346 status": 1, "-U admin status": 1, "-P secret status": 1, "-h host -p 2346 -U a -P b status": 1,
	} {
		if got := invoke(append(strings.Fields(line), "--socket", path)...); got.code != want {
			t.Errorf("%q: exit code %d, want %d (%s)", line, got.code, want, got.errors)
		}
	}
	if got := invoke("conf", "get", "nope", "--socket", path); got.out != "Error\n" {
		t.Errorf("an unknown key prints %q", got.out)
	}
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return doc
}

// has reports whether a document has a path of members. * is the path of each member, of
// which there must be one.
func has(v any, path string) bool {
	if path == "" {
		return true
	}
	head, rest, _ := strings.Cut(path, ".")
	switch v := v.(type) {
	case map[string]any:
		if head != "*" {
			member, ok := v[head]
			return ok && has(member, rest)
		}
		for _, member := range v {
			if !has(member, rest) {
				return false
			}
		}
		return len(v) > 0
	case []any:
		for _, item := range v {
			if !has(item, rest) {
				return false
			}
		}
		return head == "*" && len(v) > 0
	}
	return false
}
