// Package contrib_test checks the files that packages install.
package contrib_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tool runs a program of systemd; without the program the test fails.
func tool(t *testing.T, name string, args ...string) (output string, err error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing, so the units can't be checked; install systemd", name)
	}
	var out bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=info", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "LANG=C")
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

var execStart = regexp.MustCompile(`(?m)^(Exec(?:Start|Reload)=)/usr/local/bin/pgagroal\S*`)

// copied writes the units to a new directory, with programs that exist on this machine.
func copied(t *testing.T) (units []string) {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("systemd/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no units", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.Base(f))
		if err := os.WriteFile(to, execStart.ReplaceAll(b, []byte("${1}/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, to)
	}
	return units
}

// complaints returns the messages of systemd-analyze about these files. Its exit code
// doesn't show unknown keys.
func complaints(t *testing.T, units []string) []string {
	t.Helper()
	out, _ := tool(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
	var ours []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, filepath.Dir(units[0])) || strings.HasPrefix(line, "pgagroal") {
			ours = append(ours, line)
		}
	}
	return ours
}

func TestUnitsAreUnderstood(t *testing.T) {
	for _, line := range complaints(t, copied(t)) {
		t.Error(line)
	}
}

func TestCheckOfUnitsSeesMistakes(t *testing.T) {
	for _, mistake := range []string{"\nNoSuchKey=1\n", "\nRestart=sometimes\n", "\nExecStartPre=/no/such/program\n"} {
		units := copied(t)
		i := slices.IndexFunc(units, func(u string) bool { return strings.HasSuffix(u, "scriptrunner.service") })
		f, err := os.OpenFile(units[i], os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(mistake)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(complaints(t, units)) == 0 {
			t.Errorf("no complaint about %q", mistake)
		}
	}
}

// TestServiceIsConfined: systemd-analyze gives points for what a service could do; the threshold is in tenths.
func TestServiceIsConfined(t *testing.T) {
	for _, u := range copied(t) {
		if name := filepath.Base(u); name != "pgagroal.service" && name != "pgagroal@.service" {
			continue
		}
		out, err := tool(t, "systemd-analyze", "security", "--offline=true", "--threshold=15", u)
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// TestTemplateIsTheServiceOfAnotherDirectory: the settings of both differ in these lines only.
func TestTemplateIsTheServiceOfAnotherDirectory(t *testing.T) {
	service, template := settings(t, "pgagroal.service"), settings(t, "pgagroal@.service")
	missing := func(of, in []string) (list []string) {
		return slices.DeleteFunc(slices.Clone(of), func(l string) bool { return slices.Contains(in, l) })
	}
	for _, c := range []struct{ got, want []string }{
		{missing(service, template), []string{
			"Description=pgagroal, connection pool for PostgreSQL",
			"After=network-online.target nss-lookup.target pgagroal.socket pgagroal-scriptrunner.socket",
			"Wants=pgagroal-scriptrunner.socket",
			"ExecStart=/usr/local/bin/pgagroal -c /etc/pgagroal/pgagroal.conf -a /etc/pgagroal/pgagroal_hba.conf",
			"ExecReload=/usr/local/bin/pgagroal-cli -c /etc/pgagroal/pgagroal.conf conf reload",
			"RuntimeDirectory=pgagroal", "RuntimeDirectoryPreserve=yes", "StateDirectory=pgagroal",
			"Also=pgagroal-scriptrunner.socket",
		}},
		{missing(template, service), []string{
			"Description=pgagroal, connection pool for PostgreSQL (%i)",
			"After=network-online.target nss-lookup.target",
			"ExecStart=/usr/local/bin/pgagroal -D /etc/pgagroal/%i",
			"ExecReload=/usr/local/bin/pgagroal-cli -c /etc/pgagroal/%i/pgagroal.conf conf reload",
			"RuntimeDirectory=pgagroal-%i", "StateDirectory=pgagroal-%i",
		}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("they differ in\n%q\ninstead of\n%q", c.got, c.want)
		}
	}
}

// settings returns the lines KEY=VALUE of a unit.
func settings(t *testing.T, unit string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("systemd", unit))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// noSudo are the settings by which a service of another user than root can't gain privileges on systemd 252.
var noSudo = []string{
	"NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "ProtectClock", "ProtectHostname", "ProtectKernelLogs",
	"ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
	"SystemCallArchitectures", "SystemCallFilter", "SystemCallLog",
}

func TestUnitsFitTheProgramsAndEachOther(t *testing.T) {
	for unit, want := range map[string][]string{
		"pgagroal.service": {
			"Type=notify", "NotifyAccess=main", "User=pgagroal", "KillMode=mixed", "WatchdogSec=30",
			"RuntimeDirectory=pgagroal", "RuntimeDirectoryPreserve=yes", "StateDirectory=pgagroal",
			"ExecReload=/usr/local/bin/pgagroal-cli -c /etc/pgagroal/pgagroal.conf conf reload",
		},
		"pgagroal.socket":               {"ListenStream=2345", "ListenStream=/run/pgagroal/.s.PGSQL.2345", "FileDescriptorName=clients"},
		"pgagroal-metrics.socket":       {"FileDescriptorName=metrics", "Service=pgagroal.service"},
		"pgagroal-console.socket":       {"FileDescriptorName=console", "Service=pgagroal.service"},
		"pgagroal-management.socket":    {"FileDescriptorName=management", "Service=pgagroal.service"},
		"pgagroal-scriptrunner.service": {"Type=notify", "KillMode=process", "Requires=pgagroal-scriptrunner.socket", "StartLimitIntervalSec=0"},
		"pgagroal-scriptrunner.socket": {
			"ListenSequentialPacket=/run/pgagroal/scriptrunner.sock", "SocketMode=0600", "SocketUser=pgagroal", "FileDescriptorName=scriptrunner",
		},
	} {
		have := settings(t, unit)
		for _, w := range want {
			if !slices.Contains(have, w) {
				t.Errorf("%s lacks %s", unit, w)
			}
		}
		for _, h := range have {
			for _, trap := range []string{"PartOf=", "PrivateUsers=", "PrivateTmp=", "ProcSubset="} {
				if strings.HasPrefix(h, trap) {
					t.Errorf("%s has %s", unit, h)
				}
			}
			if key, _, _ := strings.Cut(h, "="); unit == "pgagroal-scriptrunner.service" && slices.Contains(noSudo, key) {
				t.Errorf("%s has %s, and scripts call sudo", unit, h)
			}
		}
	}
}

// TestUserAndDirectoriesAreMade has systemd apply the files to an empty root directory.
func TestUserAndDirectoriesAreMade(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"sysusers.d", "tmpfiles.d"} {
		b, err := os.ReadFile(filepath.Join(d, "pgagroal.conf"))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, "usr/lib", d)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "pgagroal.conf"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "systemd-sysusers", "--root="+root, "pgagroal.conf"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !regexp.MustCompile(`(?m)^pgagroal:x:\d+:\d+:[^:]+:/var/lib/pgagroal:/usr/sbin/nologin$`).Match(b) {
		t.Errorf("passwd is %q, %v", b, err)
	}
	if os.Geteuid() != 0 {
		t.Log("not root: the owners of directories can't be tried")
		return
	}
	if out, err := tool(t, "systemd-tmpfiles", "--create", "--root="+root, "pgagroal.conf"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// The group enters state_dir to read the digest by which a runner with a user of its own knows the supervisor.
	for dir, mode := range map[string]os.FileMode{"run/pgagroal": 0o755, "var/lib/pgagroal": 0o750} {
		info, err := os.Stat(filepath.Join(root, dir))
		if err != nil || info.Mode().Perm() != mode || !strings.Contains(string(b), owner(info)) {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
}

// owner returns the ids of a file's user and group in the format of passwd.
func owner(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("pgagroal:x:%d:%d:", st.Uid, st.Gid)
}
