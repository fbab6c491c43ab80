package supervisor

import (
	"net"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// TestEachPortThatSomebodyElseHasIsSeenBeforeTheStart has a listener on the port of each key in turn.
func TestEachPortThatSomebodyElseHasIsSeenBeforeTheStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	for key, set := range map[string]func(*config.Config){
		"port":    func(c *config.Config) { c.Port = taken },
		"metrics": func(c *config.Config) { c.Metrics = taken },
		"console": func(c *config.Config) { c.Console = taken },
		"management": func(c *config.Config) {
			c.Management, c.Admins = taken, []config.Credential{{Name: "dba", Password: "x"}}
		},
	} {
		c := config.New()
		c.Host, c.PIDFile = "127.0.0.1", t.TempDir()+"/pid"
		set(c)
		if got := Warnings(c); len(got) != 1 || !strings.Contains(got[0], key+": ") || !strings.Contains(got[0], "can't start before it is free") {
			t.Errorf("%s: %q", key, got)
		}
	}
	c := config.New()
	c.Host, c.PIDFile, c.Management = "127.0.0.1", t.TempDir()+"/pid", taken
	if got := Warnings(c); len(got) > 0 {
		t.Errorf("a management port that isn't opened: %q", got)
	}
}
