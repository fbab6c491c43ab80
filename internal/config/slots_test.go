package config

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// serversOf makes a configuration of servers such as "n1=host:5432".
func serversOf(t *testing.T, list string) *Config {
	t.Helper()
	text := "[pgagroal]\nport = 1\n"
	for _, entry := range strings.Fields(list) {
		name, at, _ := strings.Cut(entry, "=")
		host, port, _ := strings.Cut(at, ":")
		text += fmt.Sprintf("[%s]\nhost = %s\nport = %s\n", name, host, port)
	}
	return mustParse(t, text)
}

// slotsOf returns the names by slot, with - for a slot that has no server.
func slotsOf(c *Config) string {
	var all []string
	for slot := range c.Slots() {
		name := "-"
		if s := c.Slot(slot); s != nil {
			name = s.Name
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestServersKeepTheirSlotsFromReloadToReload(t *testing.T) {
	running := serversOf(t, "n1=a:1 n2=b:1 n3=c:1")
	for _, step := range []struct {
		what, fresh, slots, changes, moved string
	}{
		{"nothing", "n1=a:1 n2=b:1 n3=c:1", "n1 n2 n3", "", ""},
		{"another order", "n3=c:1 n1=a:1 n2=b:1", "n1 n2 n3", "servers", ""},
		{"one is removed", "n3=c:1 n1=a:1", "n1 - n3", "server.n2", ""},
		{"another one is added", "n4=d:1 n3=c:1 n1=a:1", "n1 - n3 n4", "server.n4", ""},
		{"the removed one is back", "n1=a:1 n2=b:1 n3=c:1 n4=d:1", "n1 n2 n3 n4", "server.n2 servers", ""},
		{"one is renamed", "n1=a:1 m2=b:1 n3=c:1 n4=d:1", "n1 m2 n3 n4", "server.n2", ""},
		{"its old name is another server's", "n1=a:1 m2=b:1 n3=c:1 n4=d:1 n2=e:1", "n1 m2 n3 n4 n2", "server.n2", ""},
		{"one moves", "n1=a:1 m2=b:2 n3=c:1 n4=d:1 n2=e:1", "n1 m2 n3 n4 n2", "server.m2.port", "m2"},
		{"two go", "n1=a:1 m2=b:2 n4=d:1", "n1 m2 - n4 -", "server.n3 server.n2", ""},
		{"one is back elsewhere", "n1=a:1 m2=b:2 n4=d:1 n3=f:1", "n1 m2 n3 n4 -", "server.n3", "n3"},
	} {
		fresh := serversOf(t, step.fresh)
		next := Reloaded(running, fresh)
		if got := slotsOf(next); got != step.slots {
			t.Errorf("%s: slots %s, want %s", step.what, got, step.slots)
		}
		var keys []string
		for _, c := range Diff(running, fresh) {
			keys = append(keys, c.Key)
			if c.Reload != Live {
				t.Errorf("%s: %s needs a restart", step.what, c.Key)
			}
		}
		if got := strings.Join(keys, " "); got != step.changes {
			t.Errorf("%s: changed %s, want %s", step.what, got, step.changes)
		}
		moved := ""
		for name := range maps.Values(Successors(running, next)) {
			moved += name
		}
		if moved != step.moved {
			t.Errorf("%s: %q has another server in its slot, want %q", step.what, moved, step.moved)
		}
		order := ""
		for slot, s := range next.InSlots() {
			if next.Slot(slot) != s {
				t.Errorf("%s: slot %d is not that of %s", step.what, slot, s.Name)
			}
			order += fmt.Sprintf("%s=%s:%d ", s.Name, s.Host, s.Port)
		}
		if strings.TrimSpace(order) != step.fresh {
			t.Errorf("%s: the order is %s", step.what, order)
		}
		running = next
	}
}

func TestSlotsAreBounded(t *testing.T) {
	running := serversOf(t, "n0=a:1")
	for i := range MaxSlots {
		running = Reloaded(running, serversOf(t, fmt.Sprintf("n%d=a%d:1", i+1, i+1)))
	}
	got := fmt.Sprint(running.Check(CheckEnv{NoAccount: true}))
	if want := fmt.Sprintf("%d different servers", MaxSlots+1); !strings.Contains(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHooksDigestDoesNotDependOnTheOrder(t *testing.T) {
	if serversOf(t, "n1=a:1 n2=b:1").HooksDigest() != serversOf(t, "n2=b:1 n1=a:1").HooksDigest() {
		t.Error("another order of servers is another digest")
	}
}
