package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// TestCheckLooksAtServersOfABrokenConfiguration: a wrong line elsewhere doesn't keep it from what it can look at.
func TestCheckLooksAtServersOfABrokenConfiguration(t *testing.T) {
	p := emptyPlace(t)
	main := fmt.Sprintf("[pgagroal]\nhost = *\nport = 2345\nunix_socket_dir = /tmp\n[n1]\nhost = 127.0.0.1\nport = %d\n", pgtest.Port(t))
	hba := filepath.Join(p.home, "pgagroal_hba.conf")
	for path, text := range map[string]string{filepath.Join(p.home, "pgagroal.conf"): main, hba: "host all all all trust\nhost all all nowhere/99 trust\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p.give(path)
	}
	r := p.run("", "check", "-D", p.home)
	if r.code != 1 || !strings.Contains(r.out, "("+hba+":2): ") || !strings.Contains(r.out, "server n1 (127.0.0.1:") || !strings.Contains(r.out, "\n2 errors, ") {
		t.Errorf("exit %d, %s\n%s", r.code, r.out, r.errOut)
	}
	for _, x := range []struct{ args, want string }{
		{"check -D " + p.home + " more", `unexpected argument "more"`},
		{"check -F xml", `unknown format "xml"`},
		{"check -D /nonexistent", "configuration directory"},
		{"check -T soon", "soon"},
	} {
		if r := p.run("", strings.Fields(x.args)...); r.code != 1 || !strings.Contains(r.errOut, x.want) {
			t.Errorf("%s: exit %d, %q, want %q", x.args, r.code, r.errOut, x.want)
		}
	}
}
