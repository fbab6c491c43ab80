package pgbouncer

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

var rewrite = flag.Bool("rewrite", false, "write what is imported to testdata")

// TestConfigurationsBecomeWhatIsExpected compares what becomes of each ini file, file by file and setting by setting,
// with testdata/NAME.want. What was made must load.
func TestConfigurationsBecomeWhatIsExpected(t *testing.T) {
	inis, err := filepath.Glob("testdata/*.ini")
	if err != nil || len(inis) != 4 {
		t.Fatal(inis, err)
	}
	for _, ini := range inis {
		name := strings.TrimSuffix(ini, ".ini")
		t.Run(filepath.Base(name), func(t *testing.T) {
			users := name + ".users"
			if _, err := os.Stat(users); err != nil {
				users = ""
			}
			r, err := Import(ini, users)
			if err != nil {
				t.Fatal(err)
			}
			got := printed(r)
			if *rewrite {
				if err := os.WriteFile(name+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			loads(t, r)
		})
	}
}

func printed(r *Result) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		fmt.Fprintf(&b, "--- %s\n%s", name, r.Files[name])
	}
	for _, u := range r.Users {
		fmt.Fprintf(&b, "--- user %s\n", u.Name)
	}
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "--- %s = %s\n    %s\n    %s\n", row.Setting, row.Value, row.Became, row.Text)
	}
	return b.String()
}

func loads(t *testing.T, r *Result) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range r.Files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := config.FindPaths(config.Flags{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	paths.Users, paths.Frontend, paths.Admins, paths.Superuser = "", "", "", ""
	if _, _, err := config.Load(paths); err != nil {
		t.Error(err)
	}
}

func TestPasswordsAreTakenOverAndNotPrinted(t *testing.T) {
	r, err := Import("testdata/several.ini", "testdata/several.users")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range r.Users {
		got = append(got, u.Name+" "+u.Password.Reveal())
	}
	if d := cmp.Diff([]string{`app pass"word`, "reader it's secret"}, got); d != "" {
		t.Error(d)
	}
	for _, secret := range []string{`pass"word`, "it's secret", "c3RvcmVk", "aaaaaaaa"} {
		if strings.Contains(printed(r), secret) {
			t.Errorf("%s is printed", secret)
		}
	}
}

// TestNobodyIsLetInWhomPgBouncerRefuses has a server in mind that trusts its pool, as those behind PgBouncer often do: it lets
// in whomever pgagroal lets through.
func TestNobodyIsLetInWhomPgBouncerRefuses(t *testing.T) {
	const off = "allow_unknown_users = off"
	for name, x := range map[string]struct {
		auth, list, hba string
		want            []string // lines of pgagroal_hba.conf, and off
	}{
		"passwords":          {"auth_type = md5", `"a" "x"`, "", []string{"local d all md5", "host d all all md5", off}},
		"no list":            {"auth_type = md5", "", "", []string{"local d all md5", "host d all all md5", off}},
		"verifiers":          {"auth_type = md5", `"a" "SCRAM-SHA-256$x"` + "\n" + `"b" "x"` + "\n" + `"c" ""`, "", []string{"local d a,b md5", "host d a,b all md5"}},
		"trust":              {"auth_type = trust", `"a" ""` + "\n" + `"all" "x"`, "", []string{`local d a,"all" trust`, `host d a,"all" all trust`}},
		"trust without list": {"auth_type = trust", "", "", []string{"local d all scram-sha-256", "host d all all scram-sha-256", off}},
		"any":                {"auth_type = any", `"a" ""`, "", []string{"local d all scram-sha-256", "host d all all scram-sha-256", off}},
		"cert":               {"auth_type = cert", `"a" ""`, "", []string{"hostssl d a all cert"}},
		"ldap":               {"auth_type = ldap", "", "", []string{"local d all scram-sha-256", "host d all all scram-sha-256"}},
		"rules": {
			"auth_type = hba", `"a" "x"`, "# c\nlocal all all trust\nhost all all 10.0.0.0/8 md5\nhost other a all md5\nhost d,other a all md5\nhost other all all reject\nhost d all all peer",
			[]string{
				"# c", "local d a trust", "host d all 10.0.0.0/8 md5", "# without effect in PgBouncer: host other a all md5", "host d a all md5",
				"host other all all reject", "host d all all peer", off,
			},
		},
		"rules and certificates": {
			"auth_type = hba\nclient_tls_sslmode = verify-ca", `"a" "x"`, "local d a trust\nhost d a all md5\nhostnossl d a all md5\nhostssl d a all cert",
			[]string{
				"local d a trust", "hostssl d a all md5 clientcert=verify-ca", "# without effect in PgBouncer: hostnossl d a all md5", "hostssl d a all cert", off,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ini, list, hba := filepath.Join(dir, "ini"), filepath.Join(dir, "list"), filepath.Join(dir, "hba")
			text := "[databases]\nd = host=x user=owner password=y\n[pgbouncer]\nauth_hba_file = " + hba + "\n" + x.auth + "\n"
			for path, text := range map[string]string{ini: text, list: x.list, hba: x.hba} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if x.list == "" {
				list = ""
			}
			r, err := Import(ini, list)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSuffix(r.Files[config.FileHBA], "\n"), "\n")[2:]
			if strings.Contains(r.Files[config.FileConfig], off) {
				got = append(got, off)
			}
			if d := cmp.Diff(x.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// TestTheTableNamesKeysThatExist also gives each key PgBouncer's default.
func TestTheTableNamesKeysThatExist(t *testing.T) {
	for name, r := range rules {
		if r.key == "" {
			if r.text == "" {
				t.Errorf("%s: neither a key nor a remark", name)
			}
			continue
		}
		m := &importer{conf: config.NewMainText("x", []byte("[pgagroal]\n"))}
		if m.rule(name, r.standard, false, r); r.standard != "" && m.Rows[0].Became == "" {
			t.Errorf("%s: %s", name, m.Rows[0].Text)
		}
		if !slices.ContainsFunc(config.Keys(), func(k config.Row) bool { return k.Section == config.MainSection && k.Name == r.key }) {
			t.Errorf("%s becomes %s, which is no key", name, r.key)
		}
	}
}

func TestWhatIsNoConfigurationOfPgBouncerIsRefused(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"listen_port = 1\n":                       "x.ini:1: it stands before any section",
		"[pgbouncer]\nlisten_port\n":              "x.ini:2: not NAME = VALUE",
		"[databases]\na = host='x\n":              "[databases] a: the quote of host is never closed",
		"[databases]\na = nonsense\n":             "[databases] a: no = behind 0 words",
		"[pgbouncer]\n%include nowhere.ini\n":     "x.ini:2: open ",
		"[pgbouncer]\n%include x.ini\n":           "include one another",
		"[databases]\n\"a = host=x\n":             `x.ini:2: not "NAME" = VALUE`,
		"[databases]\na = host=x\n[users]\nb=c\n": "[users] b: no = behind 0 words",
	} {
		path := filepath.Join(dir, "x.ini")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Import(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	list := filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("app secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Import("testdata/bare.ini", list); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// TestTheChapterOnPgBouncerIsTrue compares the table of doc/MIGRATION.md with that of settings.go.
func TestTheChapterOnPgBouncerIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../../doc/MIGRATION.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- pgbouncer:begin -->")
	table, _, _ = strings.Cut(table, "<!-- pgbouncer:end -->")
	named, told := regexp.MustCompile("`([a-z_0-9]+)`"), map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(cells[1], -1) {
			name := m[1]
			told[name] = true
			r, ok := ruleOf(name)
			same := r.key == name && strings.Contains(cells[2], "the same keys")
			switch {
			case !ok && !elsewhere[name] && name != "server_tls_":
				t.Errorf("%s is no setting that the import knows", name)
			case r.key != "" && !same && !strings.Contains(cells[2], "`"+r.key):
				t.Errorf("%s becomes %s, and the table says %s", name, r.key, cells[2])
			}
		}
	}
	for name, r := range rules {
		if r.key != "" && !told[name] {
			t.Errorf("%s becomes %s, and the table doesn't say so", name, r.key)
		}
	}
}
