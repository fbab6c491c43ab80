package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	version = "1.2.3"
	commit  = "0123456789ab"
)

// printed is what a program of these sources prints with --version, on a processor that Go names so.
func printed(program, arch string) string {
	return fmt.Sprintf("%s %s (commit %s, 2023-11-14, %s linux/%s)\n", program, version, commit, runtime.Version(), arch)
}

// must runs a command and returns what it prints.
func must(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") }),
		"SOURCE_DATE_EPOCH=1700000000", "COMMIT="+commit, "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &out)
	}
	return out.String()
}

// copied is a copy of the checkout as git has it, with the files that aren't committed yet.
func copied(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	list := must(t, "../..", "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		from, to := filepath.Join("../..", name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // deleted, and not committed
		}
		b, err2 := os.ReadFile(from)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// built are the packages of this checkout, made once for all tests.
var built = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "pgagroal-packages")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built())
	os.Exit(code)
}

// made returns the path of a package.
func made(t testing.TB, format, arch string) string {
	t.Helper()
	kind := map[string]string{
		"deb amd64": "pgagroal-go_" + version + "-1_amd64.deb", "deb arm64": "pgagroal-go_" + version + "-1_arm64.deb",
		"rpm amd64": "pgagroal-go-" + version + "-1.x86_64.rpm", "rpm arm64": "pgagroal-go-" + version + "-1.aarch64.rpm",
	}[format+" "+arch]
	path := filepath.Join(built(), "dist", kind)
	if _, err := os.Stat(path); err != nil {
		must(t, "../..", "make", format, "ARCH="+arch, "VERSION="+version, "DIST="+filepath.Join(built(), "dist"))
	}
	return path
}

// TestTwoBuildsAreEqual builds once more, from a copy at another place with other times and another umask.
func TestTwoBuildsAreEqual(t *testing.T) {
	dir := copied(t)
	for _, format := range []string{"deb", "rpm"} {
		first, err := os.ReadFile(made(t, format, "amd64"))
		if err != nil {
			t.Fatal(err)
		}
		must(t, dir, "sh", "-c", "umask 077 && make "+format+" ARCH=amd64 VERSION="+version)
		second, err := os.ReadFile(filepath.Join(dir, "dist", filepath.Base(made(t, format, "amd64"))))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("two %s of the same sources differ: %d and %d bytes", format, len(first), len(second))
		}
	}
}

// unpacked returns a directory with the files of the .deb.
func unpacked(t testing.TB, arch string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, ".", "dpkg-deb", "-x", made(t, "deb", arch), dir)
	return dir
}

func TestBothPackagesHaveTheSameFiles(t *testing.T) {
	root := unpacked(t, "amd64")
	var deb []string
	for _, line := range strings.Fields(must(t, root, "find", ".", "!", "-type", "d", "-printf", "%P\n")) {
		deb = append(deb, "/"+line)
	}
	back := strings.NewReplacer("/lib/systemd/system/", "/usr/lib/systemd/system/", "/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/")
	for i := range deb {
		deb[i] = back.Replace(deb[i])
	}
	deb = slices.DeleteFunc(deb, func(f string) bool { // what only Debian has
		return strings.HasPrefix(f, "/etc/needrestart/") || strings.HasPrefix(f, "/usr/share/lintian/") || strings.HasSuffix(f, "/changelog.Debian.gz")
	})
	var rpm []string
	for line := range strings.Lines(must(t, ".", "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", made(t, "rpm", "amd64"))) {
		if mode, name, _ := strings.Cut(strings.TrimSpace(line), " "); !strings.HasPrefix(mode, "d") && name != docs+"/LICENSE" {
			rpm = append(rpm, name)
		}
	}
	slices.Sort(deb)
	slices.Sort(rpm)
	if !slices.Equal(deb, rpm) || len(deb) < 40 {
		t.Errorf("deb %q\nrpm %q", deb, rpm)
	}
	conffiles := must(t, ".", "dpkg-deb", "-I", made(t, "deb", "amd64"), "conffiles")
	if override := "/etc/needrestart/conf.d/pgagroal.conf\n"; !strings.Contains(conffiles, override) {
		t.Errorf("the .deb has no %s", override)
	}
	config := must(t, ".", "rpm", "-qpc", made(t, "rpm", "amd64"))
	for _, f := range []string{"/etc/pgagroal/pgagroal.conf", "/etc/pgagroal/pgagroal_hba.conf"} {
		if !strings.Contains(conffiles, f+"\n") || !strings.Contains(config, f+"\n") {
			t.Errorf("%s is no configuration file of both: %q, %q", f, conffiles, config)
		}
	}
}

// TestBothPackagesDoTheSameOnTheirWay compares what the scripts of both kinds must do; those of rpm are only read here.
func TestBothPackagesDoTheSameOnTheirWay(t *testing.T) {
	scripts := must(t, ".", "rpm", "-qp", "--scripts", made(t, "rpm", "amd64"))
	for script, lines := range map[string][]string{
		"postinst": {"systemd-sysusers pgagroal.conf", "systemd-tmpfiles --create pgagroal.conf", "pgagroal.service 'pgagroal@*.service'", `pgagroal-cli -c "$conf" upgrade`, "|| status=$?\n", "has not been replaced, and serves its clients as before", "was restarted or does not answer", "daemon-reload"},
		"prerm":    {"pgagroal.socket pgagroal-metrics.socket pgagroal-console.socket pgagroal-management.socket", "'pgagroal@*.service'", "pgagroal-scriptrunner.socket"},
		"postrm":   {"daemon-reload"},
	} {
		deb := must(t, ".", "dpkg-deb", "-I", made(t, "deb", "amd64"), script)
		for _, line := range lines {
			if !strings.Contains(deb, line) || !strings.Contains(scripts, line) {
				t.Errorf("%s: %q is not in both", script, line)
			}
		}
		if strings.Contains(deb, "restart pgagroal.service") || strings.Contains(deb, "try-restart") {
			t.Errorf("%s restarts pgagroal", script)
		}
	}
	for _, c := range []struct{ field, want string }{{"Conflicts", "pgagroal"}, {"Provides", "pgagroal"}, {"Replaces", "pgagroal"}} {
		if got := strings.TrimSpace(must(t, ".", "dpkg-deb", "-f", made(t, "deb", "amd64"), c.field)); got != c.want {
			t.Errorf("%s: %q", c.field, got)
		}
	}
}

func TestLintersAreContent(t *testing.T) {
	if out := must(t, ".", "lintian", "--allow-root", "--tag-display-limit", "0", made(t, "deb", "amd64")); strings.TrimSpace(out) != "" {
		t.Errorf("lintian:\n%s", out)
	}
	// rpmlint unpacks a package whose names are absolute over the files of the root.
	if out := inACopyOfTheRoot(t, []string{"rpmlint.toml", made(t, "rpm", "amd64")}, "TMPDIR=/given rpmlint -c /given/rpmlint.toml /given/*.rpm"); !strings.Contains(out, " 0 errors, 0 warnings") {
		t.Errorf("rpmlint:\n%s", out)
	}
}

// TestProgramsOfTheOtherArchitectureStart runs them in an emulation of that processor.
func TestProgramsOfTheOtherArchitectureStart(t *testing.T) {
	root := unpacked(t, "arm64")
	programs, err := filepath.Glob(filepath.Join(root, "usr/bin/*"))
	if err != nil || len(programs) != 5 {
		t.Fatalf("programs %q, %v", programs, err)
	}
	for _, p := range programs {
		if out := must(t, ".", "qemu-aarch64-static", p, "--version"); out != printed(filepath.Base(p), "arm64") {
			t.Errorf("%s --version: %q", filepath.Base(p), out)
		}
	}
}

func TestLicencesAndComponentsAreThoseOfTheModules(t *testing.T) {
	root := filepath.Join(unpacked(t, "amd64"), docs)
	licences, err := os.ReadFile(filepath.Join(root, "copyright"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "sbom/*.cdx.json"))
	if err != nil || len(files) != 5 {
		t.Fatalf("lists of components %q, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			SerialNumber string
			Metadata     struct{ Timestamp string }
			Components   []struct{ Name, Version string }
		}
		if err := json.Unmarshal(b, &bom); err != nil {
			t.Fatal(err)
		}
		if bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") || len(bom.Components) < 2 {
			t.Errorf("%s: time %q, serial number %q, %d components", f, bom.Metadata.Timestamp, bom.SerialNumber, len(bom.Components))
		}
		for _, c := range bom.Components {
			if c.Name != "std" && !bytes.Contains(licences, []byte("\n"+c.Name+" "+c.Version+", ")) {
				t.Errorf("%s: the licence of %s %s is missing", filepath.Base(f), c.Name, c.Version)
			}
		}
	}
}

func TestVersionsAreInOrder(t *testing.T) {
	order := []string{"devel", "1.0.0-rc1", "1.0.0", "1.0.0-7-gabcdef0", "1.0.1"}
	for i, v := range order[:len(order)-1] {
		must(t, ".", "dpkg", "--compare-versions", packageVersion(v)+"-1", "lt", packageVersion(order[i+1])+"-1")
	}
}

// TestImageHasNothingButThePrograms builds the image without a network and runs one of its programs as its user.
func TestImageHasNothingButThePrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("buildah needs root here")
	}
	store := t.TempDir()
	buildah := []string{"--storage-driver", "vfs", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
	must(t, "../..", "make", "image", "ARCH=amd64", "VERSION="+version, "BUILDAH=buildah "+strings.Join(buildah, " "))
	run := func(args ...string) string { return must(t, ".", "buildah", append(slices.Clone(buildah), args...)...) }
	c := strings.TrimSpace(run("from", "--pull-never", "pgagroal-go:"+version))
	defer run("rm", c)
	root := strings.TrimSpace(run("mount", c))
	files := strings.Fields(must(t, root, "find", ".", "-type", "f", "-printf", "%P\n"))
	slices.Sort(files)
	want := []string{
		"etc/group", "etc/passwd", "run/pgagroal/.keep", "usr/bin/pgagroal", "usr/bin/pgagroal-admin", "usr/bin/pgagroal-cli", "usr/bin/pgagroal-console",
		"usr/bin/pgagroal-scriptrunner", "var/lib/pgagroal/.keep",
	}
	if !slices.Equal(files, want) {
		t.Errorf("files %q", files)
	}
	config := run("inspect", "--format", "{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.Docker.Config.Healthcheck.Test}}", c)
	if want := "65532:65532 [/usr/bin/pgagroal] [CMD /usr/bin/pgagroal-cli ping]"; strings.TrimSpace(config) != want {
		t.Errorf("it is %q instead of %q", config, want)
	}
	if out := run("run", "--isolation", "chroot", c, "--", "/usr/bin/pgagroal", "--version"); out != printed("pgagroal", "amd64") {
		t.Errorf("--version: %q", out)
	}
}
