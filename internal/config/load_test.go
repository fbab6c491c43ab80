package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const minimalMain = "[pgagroal]\nhost=*\nport=2345\nunix_socket_dir=/tmp\n[a]\nhost=a\nport=5432\n"

// directory writes files to a new directory and returns its path; it adds the master
// key of the test vectors.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustFind(t *testing.T, f Flags, fallback string) Paths {
	t.Helper()
	p, err := findPaths(f, fallback)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFilesAreFoundByFlagDirectoryAndFallback(t *testing.T) {
	fallback := directory(t, map[string]string{FileConfig: "", FileHBA: "", FileUsers: ""})
	variable := directory(t, map[string]string{FileConfig: ""})
	given := directory(t, map[string]string{FileConfig: "", FileLimits: "", "my.hba": ""})

	if p := mustFind(t, Flags{}, fallback); p.Config != filepath.Join(fallback, FileConfig) || p.Explicit[FileConfig] {
		t.Errorf("without anything: %+v", p)
	}
	t.Setenv(DirectoryVariable, variable)
	p := mustFind(t, Flags{}, fallback)
	if p.Config != filepath.Join(variable, FileConfig) || p.HBA != filepath.Join(fallback, FileHBA) {
		t.Errorf("with the variable: %+v", p)
	}
	hba := filepath.Join(given, "my.hba")
	p = mustFind(t, Flags{Directory: given, HBA: hba}, fallback)
	if p.Config != filepath.Join(given, FileConfig) || p.Limits != filepath.Join(given, FileLimits) || p.HBA != hba ||
		p.Users != filepath.Join(fallback, FileUsers) || !p.Explicit[FileHBA] || p.Explicit[FileConfig] {
		t.Errorf("with flags: %+v", p)
	}
	for _, bad := range []string{filepath.Join(given, "none"), hba} {
		if _, err := findPaths(Flags{Directory: bad}, fallback); err == nil {
			t.Errorf("the directory %s is taken", bad)
		}
	}
	t.Chdir(given)
	if p := mustFind(t, Flags{Config: "other.conf"}, fallback); !filepath.IsAbs(p.Config) {
		t.Errorf("%s would be lost with a change of directory", p.Config)
	}
}

func TestLoadReadsEveryFile(t *testing.T) {
	dir := directory(t, map[string]string{
		FileConfig: minimalMain, FileHBA: "host all all all trust\n", FileLimits: "d alice 5\n",
		FileUsers: vectorUsers, FileFrontend: vectorUsers, FileAdmins: vectorUsers,
		FileSuperuser: strings.SplitAfter(vectorUsers, "\n")[0],
	})
	p := mustFind(t, Flags{Directory: dir}, dir)
	p.MasterKey = keyFile(t, vectorKey, 0o700, 0o600)
	c, warnings, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.HBA) != 1 || len(c.Limits) != 1 || len(c.Users) != 5 || len(c.FrontendUsers) != 5 || len(c.Admins) != 5 {
		t.Errorf("something is missing: %+v", c)
	}
	if c.Superuser == nil || c.Superuser.Password.Reveal() != "s3cret" || c.Users[4].Name != "long64" {
		t.Errorf("superuser %v", c.Superuser)
	}
	if len(warnings) != 1 || warnings[0].Key != "allow_unknown_users" {
		t.Errorf("warnings %v", warnings)
	}
	if errs := c.Check(CheckEnv{}); len(errs) > 0 {
		t.Errorf("Check: %v", errs)
	}
}

func TestLoadTakesTheKeyOfTheHomeDirectory(t *testing.T) {
	dir := directory(t, map[string]string{FileConfig: minimalMain, FileHBA: "host all all all trust\n", FileUsers: vectorUsers})
	t.Setenv("HOME", filepath.Dir(filepath.Dir(keyFile(t, vectorKey, 0o700, 0o600))))
	if os.Geteuid() == 0 {
		if _, _, err := Load(mustFind(t, Flags{Directory: dir}, dir)); !strings.Contains(fmt.Sprint(err), ErrNoAccount.Error()) {
			t.Errorf("with a key of root's: %v", err)
		}
		return
	}
	if c, _, err := Load(mustFind(t, Flags{Directory: dir}, dir)); err != nil || len(c.Users) != 5 {
		t.Errorf("with a key: %v", err)
	}
	t.Setenv("HOME", t.TempDir())
	if _, _, err := Load(mustFind(t, Flags{Directory: dir}, dir)); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("without a key: %v", err)
	}
}

func TestResetQueryThatMustFailIsWarnedOf(t *testing.T) {
	for query, warned := range map[string]bool{
		"'DISCARD ALL'": false, "'DISCARD ALL; SET a.b = \"x\"'": false, "'BEGIN; SET a.b = \"x\"; COMMIT'": false,
		"'BEGIN; DISCARD ALL; COMMIT'": true, "'discard  all; rollback'": true, "'DISCARD ALL; SET a.b = \"\\\"'": true,
	} {
		dir := directory(t, map[string]string{FileConfig: "[pgagroal]\nserver_reset_query = " + query + strings.TrimPrefix(minimalMain, "[pgagroal]"), FileHBA: "host all all all trust\n"})
		_, warnings, err := Load(mustFind(t, Flags{Directory: dir}, dir))
		if got := len(warnings) == 1 && warnings[0].Key == "server_reset_query"; err != nil || got != warned {
			t.Errorf("%s: %v, %v", query, warnings, err)
		}
	}
}

func TestOptionalFilesMayBeMissingUnlessNamed(t *testing.T) {
	dir := directory(t, map[string]string{FileConfig: minimalMain, FileHBA: "host all all all trust\n"})
	c, warnings, err := Load(mustFind(t, Flags{Directory: dir}, dir))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.Paths.Users != "" || c.Paths.Limits != "" || c.Paths.HBA == "" {
		t.Errorf("paths %+v", c.Paths)
	}
	for _, f := range []Flags{
		{Users: "none"}, {Limits: "none"}, {Frontend: "none"}, {Admins: "none"}, {Superuser: "none"}, {HBA: "none"}, {Config: "none"},
	} {
		f.Directory = dir
		if _, _, err := Load(mustFind(t, f, dir)); err == nil {
			t.Errorf("%+v: a file that the operator named may be missing", f)
		}
	}
}

func TestAMissingFileNamesEveryPathThatWasTried(t *testing.T) {
	given, fallback := directory(t, nil), directory(t, nil)
	_, _, err := Load(mustFind(t, Flags{Directory: given}, fallback))
	for _, name := range []string{FileConfig, FileHBA} {
		want := fmt.Sprintf("%s: no such file or directory, and %s: no such file or directory; %s must be there and readable",
			filepath.Join(given, name), filepath.Join(fallback, name), name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	named := filepath.Join(given, "my.hba")
	_, _, err = Load(mustFind(t, Flags{Directory: given, HBA: named}, fallback))
	if want := named + ": no such file or directory; "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%q is missing in %v", want, err)
	}
}

func TestLoadReportsEveryProblemOfEveryFileAtOnce(t *testing.T) {
	dir := directory(t, map[string]string{
		FileConfig: "[pgagroal]\nhots=*\nport=x\n", FileHBA: "local all all all trust\n",
		FileLimits: "d\n", FileUsers: "broken\n", FileSuperuser: "a:b\nc:d\n",
	})
	p := mustFind(t, Flags{Directory: dir}, dir)
	p.MasterKey = keyFile(t, vectorKey, 0o700, 0o600)
	c, _, err := Load(p)
	if c != nil || err == nil {
		t.Fatal("it loads")
	}
	for _, want := range []string{
		"pgagroal.conf:2:1: hots: unknown key; did you mean host?", "pgagroal.conf:3:6: port:", "pgagroal_hba.conf:1:15:",
		"pgagroal_databases.conf:1:1:", "pgagroal_users.conf:1:1:", "pgagroal_superuser.conf:1:3:", "pgagroal_superuser.conf:2:3:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	var fe *FileError
	if !errors.As(err, &fe) {
		t.Error("the error holds no *FileError")
	}
}

func TestSecondSuperuserIsRefused(t *testing.T) {
	dir := directory(t, map[string]string{FileConfig: minimalMain, FileHBA: "host all all all trust\n", FileSuperuser: vectorUsers})
	p := mustFind(t, Flags{Directory: dir}, dir)
	p.MasterKey = keyFile(t, vectorKey, 0o700, 0o600)
	if _, _, err := Load(p); err == nil || !strings.Contains(err.Error(), "more than one entry") {
		t.Errorf("%v", err)
	}
}

func TestHooksLoadWithoutUsersAndKeys(t *testing.T) {
	dir := directory(t, map[string]string{FileConfig: minimalMain + "failover_candidate=off\n", FileUsers: "broken"})
	c, err := LoadMain(filepath.Join(dir, FileConfig))
	if err != nil || len(c.Servers) != 1 || c.Users != nil {
		t.Fatalf("%v", err)
	}
	p := mustFind(t, Flags{Config: filepath.Join(dir, FileConfig)}, dir)
	p.HBA, p.Users = filepath.Join(directory(t, map[string]string{"h": "host all all all trust"}), "h"), ""
	full, _, err := Load(p)
	if err != nil || full.HooksDigest() != c.HooksDigest() {
		t.Errorf("the digests of one file differ: %v", err)
	}
	if _, err := LoadMain(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file loads")
	}
}

// TestFilesThatEverybodyMayWrite: such a file causes a warning; a file with users is
// refused.
func TestFilesThatEverybodyMayWrite(t *testing.T) {
	for name, fatal := range map[string]bool{
		FileConfig: false, FileHBA: false, FileLimits: false,
		FileUsers: true, FileFrontend: true, FileAdmins: true, FileSuperuser: true,
	} {
		files := map[string]string{FileConfig: minimalMain, FileHBA: "host all all all trust\n"}
		if _, ok := files[name]; !ok {
			files[name] = "# nobody yet\n"
		}
		dir := directory(t, files)
		if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(mustFind(t, Flags{Directory: dir}, dir))
		const want = "everybody may write to it (mode 0666)"
		if fatal != (err != nil && strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
		if warned := len(warnings) == 1 && strings.Contains(warnings[0].String(), want); warned == fatal {
			t.Errorf("%s: warnings %v", name, warnings)
		}
	}
}
