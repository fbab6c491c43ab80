package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// confFile makes a main file in a home directory of its own.
func confFile(t *testing.T) (p *place, path string) {
	t.Helper()
	p = emptyPlace(t)
	path = filepath.Join(p.home, config.FileConfig)
	if err := os.WriteFile(path, []byte("# kept\n[pgagroal]\nhost = *\nport = 2345 # ours\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.give(path)
	return p, path
}

func (p *place) conf(t *testing.T, want string, args ...string) {
	t.Helper()
	if r := p.run("", append([]string{"conf"}, args...)...); r.code != 0 || r.out != want {
		t.Errorf("conf %v: exit %d, %q, %s", args, r.code, r.out, r.errOut)
	}
}

func TestConfReadsAndChangesAFile(t *testing.T) {
	p, path := confFile(t)
	p.conf(t, "2345\n", "get", path, "pgagroal", "port")
	p.conf(t, "", "set", path, "pgagroal", "port", "6432")
	p.conf(t, "", "set", path, "n1", "host", "10.0.0.1", "in the cellar")
	p.conf(t, "", "set", path, "n1", "port", "5432")
	p.conf(t, "", "set", path, "pgagroal", "backlog", "--", "-1")
	p.conf(t, "pgagroal\nn1\n", "ls", path)
	p.conf(t, "host\nport\nbacklog\n", "ls", path, "pgagroal")
	p.conf(t, "-1\n", "get", path, "pgagroal", "backlog")
	p.conf(t, "", "del", path, "n1", "port")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "# kept\n[pgagroal]\nhost = *\nport = 6432 # ours\nbacklog = -1\n\n[n1]\nhost = 10.0.0.1 # in the cellar\n"
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Error(d)
	}
	p.conf(t, "", "del", path, "n1")
	p.conf(t, "pgagroal\n", "ls", path)
}

func TestConfRefusesWhatTheParserRefuses(t *testing.T) {
	p, path := confFile(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ args, want string }{
		{"set " + path + " pgagroal prot 1", path + ":5:1: prot: unknown key; did you mean port?"},
		{"set " + path + " pgagroal port many", path + ":4:8: port: "},
		{"get " + path + " pgagroal backlog", "backlog is not set in [pgagroal] of " + path + "; its default is"},
		{"get " + path + " n1 port", "no section [n1]"},
		{"ls " + path + " n1", "no section [n1]"},
		{"del " + path + " n1", "no section [n1]"},
		{"get " + path + " pgagroal", "2 arguments; write pgagroal-admin conf get FILE SECTION KEY"},
		{"ls " + path + "x", "no such file"},
		{"set " + path + "x pgagroal port 1", "no such file"},
		{"init " + path + " -q", "is there already"},
		{"frob", `unknown command "frob"`},
	} {
		if r := p.run("", append([]string{"conf"}, strings.Fields(x.args)...)...); r.code != 1 || !strings.Contains(r.errOut, x.want) {
			t.Errorf("conf %s: exit %d, %q; want %q", x.args, r.code, r.errOut, x.want)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("%v, the file is changed:\n%s", err, after)
	}
	if names, err := filepath.Glob(filepath.Join(p.home, ".*")); err != nil || len(names) != 0 {
		t.Error("files are left:", names, err)
	}
}

// TestConfKeepsOwnerAndMode also goes through a link, which stays one.
func TestConfKeepsOwnerAndMode(t *testing.T) {
	p, path := confFile(t)
	link := filepath.Join(p.home, "link.conf")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	set := p.run
	if os.Geteuid() == 0 {
		set = p.asRoot
		if err := os.Chown(path, 4242, 4243); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := set("", "conf", "set", link, "pgagroal", "port", "1"); r.code != 0 {
		t.Fatal(r.errOut)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	was, is := old.Sys().(*syscall.Stat_t), info.Sys().(*syscall.Stat_t)
	if is.Uid != was.Uid || is.Gid != was.Gid || info.Mode() != 0o640 || is.Ino == was.Ino {
		t.Errorf("mode %v, owner %d:%d, inode %d (before %d)", info.Mode(), is.Uid, is.Gid, is.Ino, was.Ino)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Error("the link is gone:", to, err)
	}
}

func TestConfInitWritesAFileThatLoads(t *testing.T) {
	p := emptyPlace(t)
	quiet, asked := filepath.Join(p.home, "quiet.conf"), filepath.Join(p.home, "asked.conf")
	if r := p.run("", "conf", "init", "-q", quiet); r.code != 0 || r.errOut != "" {
		t.Fatal(r.code, r.errOut)
	}
	c, err := config.LoadMain(quiet)
	if err != nil || c.Host != "*" || c.Port != 2345 || len(c.Servers) != 1 || c.Servers[0].Port != 5432 {
		t.Errorf("%v, %+v", err, c)
	}
	r := p.run("127.0.0.1\nmany\n6432\n\n\n\n\nn1.example\n\n\nn2.example\n5433\n", "conf", "init", asked)
	if r.code != 0 || !strings.Contains(r.errOut, "asked.conf:5:8: port: ") {
		t.Fatal(r.code, r.errOut)
	}
	c, err = config.LoadMain(asked)
	if err != nil || c.Host != "127.0.0.1" || c.Port != 6432 || len(c.Servers) != 2 || c.Servers[1].Host != "n2.example" || c.Servers[1].Port != 5433 {
		t.Errorf("%v, %+v", err, c)
	}
	if r := p.run("127.0.0.1\n", "conf", "init", filepath.Join(p.home, "cut.conf")); r.code != 1 || !strings.Contains(r.errOut, "read the answer") {
		t.Error(r.code, r.errOut)
	}
	if _, err := os.Stat(filepath.Join(p.home, "cut.conf")); err == nil {
		t.Error("a file was written without all answers")
	}
}
