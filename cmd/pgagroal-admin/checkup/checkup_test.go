package checkup

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
)

// texts returns the findings in short.
func (f findings) texts() []string {
	var list []string
	for _, x := range f {
		list = append(list, string(x.Level)+" "+x.About+": "+x.Text)
	}
	return list
}

func newLook(t *testing.T, c *config.Config, name string) look {
	t.Helper()
	c.Servers = append(c.Servers, config.Server{Name: name, Host: "192.0.2.1", Port: 5432, FailoverCandidate: true})
	return look{c: c, sv: &c.Servers[len(c.Servers)-1]}
}

func TestClocksThatDifferAreSeenBeyondTheTimeOfTheQuestion(t *testing.T) {
	began := time.UnixMicro(1_700_000_000_000_000)
	for theirs, want := range map[time.Duration]string{
		-1200 * time.Millisecond: "differs from the one here by -1.2s",
		-900 * time.Millisecond:  "",
		300 * time.Millisecond:   "", // while the question was under way
		1900 * time.Millisecond:  "",
		61 * time.Second:         "differs from the one here by 1m0s",
	} {
		k := newLook(t, config.New(), "n1")
		k.clock(health.Answer{
			Rows:  [][]string{{strconv.FormatInt(began.Add(theirs).UnixMicro(), 10)}},
			Began: began, Ended: began.Add(time.Second),
		})
		got := strings.Join(k.texts(), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", theirs, got, want)
		}
	}
}

func TestServersAreComparedWithOneAnother(t *testing.T) {
	primary := ipc.ProbeDone{Outcome: ipc.SawPrimary, Version: "15.3", Obs: ipc.Observation{SystemID: 1, Timeline: 3, WriteLSN: 9000}}
	standby := ipc.ProbeDone{Outcome: ipc.SawStandby, Version: "15.3", Obs: ipc.Observation{SystemID: 1, Timeline: 3, ReceiveLSN: 8500}}
	for name, x := range map[string]struct {
		change func(p, s *look)
		want   []string
	}{
		"well": {func(_, _ *look) {}, nil},
		"no primary": {
			func(p, _ *look) { p.seen = standby },
			[]string{"error servers: no server that could be looked at is a primary: clients can't write"},
		},
		"two clusters": {
			func(_, s *look) { s.seen.Obs.SystemID = 2 },
			[]string{"error servers: the servers are not of one cluster, by their system identifiers: n1 has 1, n2 has 2"},
		},
		"another timeline and version, far behind": {
			func(_, s *look) {
				s.seen.Obs.Timeline, s.seen.Obs.ReceiveLSN, s.seen.Version = 2, 100, "15.2"
			},
			[]string{
				"warning server n2: timeline 2, and n1 is on timeline 3",
				"warning server n2: it is 8900 bytes behind, more than failover_max_lag: it would not be promoted",
				"note server n2: PostgreSQL 15.2, and n1 is 15.3",
			},
		},
		"a standby that would never follow": {
			func(_, s *look) { s.settings = map[string]string{"recovery_target_timeline": "current"} },
			[]string{"error server n2: it would not follow a new primary"},
		},
		"asynchronous": {
			func(p, _ *look) { p.settings = map[string]string{"synchronous_standby_names": ""} },
			[]string{"note server n1: replication is asynchronous: a failover loses the transactions that the standby has not received"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.New()
			c.Failover, c.FailoverMaxLag = true, 1000
			c.Servers = make([]config.Server, 0, 2)
			looks := []look{newLook(t, c, "n1"), newLook(t, c, "n2")}
			looks[0].seen, looks[1].seen = primary, standby
			looks[0].answered, looks[1].answered = true, true
			x.change(&looks[0], &looks[1])
			var f findings
			f.together(c, looks)
			if d := cmp.Diff(x.want, f.texts()); d != "" {
				t.Errorf("(-want +have)\n%s", d)
			}
		})
	}
}

func TestAllConnectionsOfPgagroalCountAgainstThoseOfAServer(t *testing.T) {
	c := config.New()
	c.MaxConnections, c.AuthQuery, c.AuthQueryConnections = 80, true, 10
	k := newLook(t, c, "n1")
	k.settings = map[string]string{"max_connections": "100", "superuser_reserved_connections": "3", "reserved_connections": "6"}
	k.limits()
	k.settings["reserved_connections"] = "5"
	k.limits()
	want := []string{
		"warning server n1: pgagroal may open 92 connections, and it has 91 for ordinary users: clients would read that there are too many (53300)",
		"ok server n1: 92 connections of pgagroal fit into the 92 that it has for ordinary users",
	}
	if d := cmp.Diff(want, k.texts()); d != "" {
		t.Errorf("(-want +have)\n%s", d)
	}
}

// TestFilesThatOnlyRootReadsBreakReloads: root reads everything at the start.
func TestFilesThatOnlyRootReadsBreakReloads(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and the account nobody")
	}
	dir, err := os.MkdirTemp("", "checkup")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := func(name string) string { return filepath.Join(dir, name) }
	err = os.Chmod(dir, 0o755)
	for name, mode := range map[string]os.FileMode{"main": 0o644, "users": 0o600, "key": 0o604} {
		err = errors.Join(err, os.WriteFile(path(name), nil, 0o600), os.Chmod(path(name), mode))
	}
	if err != nil {
		t.Fatal(err)
	}
	c := config.New()
	c.User, c.TLSKeyFile = nobody.Username, path("key")
	c.Paths.Config, c.Paths.Users = path("main"), path("users")
	var f findings
	f.account(c)
	want := []string{
		"error files: nobody, the account of pgagroal, can't read it, so that a reload fails even where a start as root works",
		"warning files: everybody may read this private key (mode 0604)",
	}
	if d := cmp.Diff(want, f.texts()); d != "" || f[0].Where != path("users") || f[1].Where != path("key") {
		t.Errorf("%v (-want +have)\n%s", f, d)
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	var f findings
	f.add(OK, "a", "", "", "fine")
	f.add(Note, "b", "/x:3", "", "so so")
	f.addError("c", &config.FileError{File: "/y", Line: 4, Column: 2, Key: "port", Msg: "not set; name the port"})
	f.addError("d", errors.New("broken"))
	var out bytes.Buffer
	if err := f.report().WriteText(&out); err != nil {
		t.Fatal(err)
	}
	want := "error    c (/y:4): port: not set\n         -> name the port\nerror    d: broken\nnote     b (/x:3): so so\nok       a: fine\n2 errors, 0 warnings, 1 note\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +have)\n%s", d)
	}
}
