package checkup

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

// maxAddresses bounds the addresses of a name that are tried.
const maxAddresses = 8

// look is the look at one server, in a goroutine of its own.
type look struct {
	findings
	c  *config.Config
	sv *config.Server

	seen     ipc.ProbeDone
	answered bool              // somebody could log in
	settings map[string]string // of pg_settings, nil if they can't be read
	skew     time.Duration     // of the server's clock against ours, at least
}

func (k *look) about() string { return "server " + k.sv.Name }

// say adds a finding about the server.
func (k *look) say(level Level, where, do, format string, args ...any) {
	k.add(level, k.about(), where, do, format, args...)
}

func (k *look) run(ctx context.Context) {
	t, err := k.target()
	if err != nil {
		k.say(Error, placeOf(k.sv.File, k.sv.Line), "", "TLS: %v", err)
		return
	}
	addresses, err := k.addresses(ctx)
	if err != nil {
		k.say(Error, placeOf(k.sv.File, k.sv.Line), "correct host in ["+k.sv.Name+"], or the name service", "%s can't be resolved: %v", k.sv.Host, err)
		return
	}
	for i, a := range addresses {
		t.Network, t.Address = a[0], a[1]
		t.Timeout = share(ctx, len(addresses)-i)
		k.seen = health.Probe(ctx, t)
		if reached(k.seen.Outcome) {
			break
		}
		k.unreached(t.Address, len(addresses) > 1)
	}
	if !reached(k.seen.Outcome) {
		return
	}
	k.login(t)
	if k.seen.Outcome != ipc.SawPrimary && k.seen.Outcome != ipc.SawStandby {
		return
	}
	t.Timeout = share(ctx, 1)
	s, err := health.Answers(ctx, t, questions()...)
	if err != nil {
		k.say(Error, t.Address, "look at the log of the server", "a second connection failed: %v", err)
		return
	}
	k.answered = true
	k.role(t.Address)
	k.encryption(t.Address, s.TLS)
	k.read(s)
}

// share returns the part of the remaining time that one of n attempts may take.
func share(ctx context.Context, n int) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline)/time.Duration(n), time.Millisecond)
}

// target returns what probes of pgagroal look at, without the address.
func (k *look) target() (health.Target, error) {
	t := health.Target{Methods: k.sv.AuthMethods()}
	for _, l := range supervisor.ProbeLogins(k.c) {
		t.Logins = append(t.Logins, health.Login{User: l.User, Database: l.Database, Password: l.Password.Reveal()})
	}
	if k.sv.TLS == config.TLSOff {
		return t, nil
	}
	m, err := supervisor.TLSOf(k.sv)
	if err == nil {
		t.TLS, err = tlsdial.New(&m)
	}
	return t, err
}

// addresses returns network and address of each address of the server.
func (k *look) addresses(ctx context.Context) ([][2]string, error) {
	host, port := k.sv.Host, strconv.Itoa(k.sv.Port)
	if strings.HasPrefix(host, "/") {
		return [][2]string{{"unix", path.Join(host, ".s.PGSQL."+port)}}, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return [][2]string{{"tcp", net.JoinHostPort(host, port)}}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var list [][2]string
	for _, ip := range found[:min(len(found), maxAddresses)] {
		list = append(list, [2]string{"tcp", net.JoinHostPort(ip.Unmap().String(), port)})
	}
	return list, nil
}

func reached(o ipc.Outcome) bool {
	return o == ipc.SawPrimary || o == ipc.SawStandby || o == ipc.SawAlive
}

// unreached says why a server doesn't serve at an address.
func (k *look) unreached(address string, others bool) {
	section := "host and port in [" + k.sv.Name + "]"
	text, do := "it doesn't answer in time", "look whether the machine and the network are up, and at firewalls; or correct "+section
	switch k.seen.Outcome {
	case ipc.SawRefused:
		text, do = "nothing listens there, or it closes connections at once", "start PostgreSQL, correct its listen_addresses, or correct "+section
	case ipc.SawUnreachable:
		text = "the network knows no way there"
	case ipc.SawSilent:
		text, do = "it accepts connections and says nothing", "look whether PostgreSQL hangs, or a proxy stands before a dead server"
	case ipc.SawStarting:
		text, do = "it is starting, or doesn't let clients in during its recovery", "wait, or set hot_standby = on there"
	case ipc.SawShutdown:
		text, do = "it is shutting down", "start it"
	case ipc.SawNothing:
		text, do = "this machine can't connect to it: "+k.seen.Code, "look at limits and permissions here"
	}
	level := Error
	if others {
		level = Warning
	}
	k.say(level, address, do, "%s", text)
}

// login says what stands against logins of probes.
func (k *look) login(t health.Target) {
	user := k.c.HealthCheckUser
	level := Note
	if k.c.Failover {
		level = Warning
	}
	if user == "" && len(t.Logins) == 0 {
		k.say(level, t.Address, "create a role with pg_monitor, set health_check_user, and add it with pgagroal-admin",
			"it answers; nobody is known as whom probes can log in, so role, lag and rights can't be seen")
		return
	}
	if user == "" {
		k.say(level, t.Address, "set health_check_user to a role with pg_monitor", "there is no health_check_user: probes log in as %s", t.Logins[0].User)
		user = t.Logins[0].User
	}
	if k.seen.Outcome != ipc.SawAlive {
		return
	}
	text, do := refusal(k.seen, user, k.c.Paths.UsersFile())
	k.say(Error, t.Address, do, "%s", text)
}

// refusal explains a login that failed at a server that answers.
func refusal(seen ipc.ProbeDone, user, file string) (text, do string) {
	edit := fmt.Sprintf("pgagroal-admin -f %s user edit -U %s", file, user)
	words := ""
	if seen.Words != "" {
		words = ": " + seen.Words
	}
	switch seen.Code {
	case "nologin":
		return user + " has no password here, and the server asks for one, or for a method that require_auth forbids" + words, edit
	case "tls":
		return "TLS failed" + words, "compare tls and tls_* of the section with the server's ssl settings and certificate"
	case "protocol", "nosqlstate":
		return "what answers there doesn't speak as PostgreSQL does", "correct host and port"
	case "unproven":
		return "it let " + user + " in without proof that it knows the password: it may be an impostor", "look who listens there"
	case "28P01":
		return "it refuses the password of " + user + " (28P01)", edit
	case "28000":
		return "it doesn't let " + user + " in (28000)", "create the role with LOGIN, and a line in pg_hba.conf of the server"
	case "3D000":
		return "the database postgres is missing (3D000)", "create it"
	case "42501":
		return user + " may not connect to the database (42501)", "GRANT CONNECT ON DATABASE postgres TO " + user
	case "53300":
		return "it has too many connections already (53300)", "raise max_connections of the server, or lower that of pgagroal"
	}
	return "the login of " + user + " failed: " + seen.Code + words, "look at the log of the server"
}
