package checkup

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
)

// The questions, in the order of questions().
const (
	askClock = iota
	askRights
	askSenders
	askSettings
)

func questions() []string {
	return []string{
		askClock:   "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
		askRights:  "SELECT current_user, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')",
		askSenders: "SELECT count(*), count(sent_lsn) FROM pg_stat_get_wal_senders()",
		askSettings: "SELECT name, setting FROM pg_settings WHERE name IN ('" + strings.Join([]string{
			"max_connections", "superuser_reserved_connections", "reserved_connections", "synchronous_standby_names", "synchronous_commit",
			"wal_receiver_timeout", "wal_retrieve_retry_interval", "recovery_min_apply_delay", "recovery_target_timeline",
		}, "', '") + "')",
	}
}

// read says what the answers mean. A question that the server refuses has no rows, and so no finding.
func (k *look) read(s health.Session) {
	k.clock(s.Answers[askClock])
	k.rights(s.Answers[askRights], s.Answers[askSenders])
	k.settings = map[string]string{}
	for _, row := range s.Answers[askSettings].Rows {
		if len(row) == 2 {
			k.settings[row[0]] = row[1]
		}
	}
	k.limits()
}

const (
	slowClock = time.Second
	// soonEnds is how long before its end a certificate is worth a warning.
	soonEnds = 30 * 24 * time.Hour
)

// clock compares the server's clock with ours. The answer was made between Began and Ended, so less than half of that
// time says nothing.
func (k *look) clock(a health.Answer) {
	micros, err := strconv.ParseInt(column(a, 0), 10, 64)
	if err != nil {
		return
	}
	theirs := time.UnixMicro(micros)
	switch {
	case theirs.After(a.Ended):
		k.skew = theirs.Sub(a.Ended)
	case theirs.Before(a.Began):
		k.skew = theirs.Sub(a.Began)
	}
	if k.skew > slowClock || k.skew < -slowClock {
		k.say(Warning, "", "synchronise the clocks of both machines",
			"its clock differs from the one here by %v: times in logs can't be compared, and certificates end too soon or too late", k.skew.Round(time.Millisecond))
	}
}

func column(a health.Answer, n int) string {
	if len(a.Rows) == 0 || n >= len(a.Rows[0]) {
		return ""
	}
	return a.Rows[0][n]
}

// rights says what the user of the probes can't see. The WAL senders tell that directly where there are some.
func (k *look) rights(role, senders health.Answer) {
	user := column(role, 0)
	hidden := column(senders, 0) != column(senders, 1)
	if user == "" || column(role, 1) == "t" && !hidden {
		return
	}
	k.say(Warning, "", "GRANT pg_monitor TO "+quoted(user),
		"%s may not see who streams, and whether a standby still receives: lag is unknown, and a silent primary is never given up", user)
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// limits compares max_connections of pgagroal with what the server has for ordinary users.
func (k *look) limits() {
	most, err := strconv.Atoi(k.settings["max_connections"])
	if err != nil {
		return
	}
	for _, name := range []string{"superuser_reserved_connections", "reserved_connections"} { // the second is new in PostgreSQL 16
		n, _ := strconv.Atoi(k.settings[name])
		most -= n
	}
	const probes = 2
	ours := k.c.MaxConnections + probes
	if k.c.AuthQuery {
		ours += k.c.AuthQueryConnections
	}
	if ours <= most {
		k.say(OK, "", "", "%d connections of pgagroal fit into the %d that it has for ordinary users", ours, most)
		return
	}
	k.say(Warning, k.c.Place("max_connections"), "lower max_connections here, or raise that of the server",
		"pgagroal may open %d connections, and it has %d for ordinary users: clients would read that there are too many (53300)", ours, most)
}

// role says what the server is, and which version.
func (k *look) role(address string) {
	o := k.seen.Obs
	if k.seen.Outcome == ipc.SawPrimary {
		k.say(OK, address, "", "primary, PostgreSQL %s, timeline %d", k.seen.Version, o.Timeline)
		if o.SyncWaiting {
			k.say(Warning, "", "start the synchronous standby, or take it out of synchronous_standby_names", "commits wait for a synchronous standby right now")
		}
		return
	}
	k.say(OK, address, "", "standby, PostgreSQL %s, timeline %d", k.seen.Version, o.Timeline)
	if o.Receiver == ipc.ReceiverGone {
		k.say(Warning, "", "look at its log and at primary_conninfo", "it doesn't stream from a primary (%s)", orNothing(o.ReceiverWord))
	}
	if o.Paused {
		k.say(Warning, "", "SELECT pg_wal_replay_resume(), or recovery_min_apply_delay = 0", "its replay is paused or delayed, which a promotion has to wait for")
	}
}

func orNothing(word string) string {
	if word == "" {
		return "no WAL receiver"
	}
	return word
}

// encryption says whether the connection is in clear text, and until when the certificate counts.
func (k *look) encryption(address string, facts *tlsmem.Facts) {
	if facts == nil {
		if !local(address) {
			do := "set tls = verify-full and tls_ca_file in [" + k.sv.Name + "], and ssl = on at the server"
			k.say(Note, address, do, "connections to it are in clear text (tls = %s)", k.sv.TLS)
		}
		return
	}
	if facts.Peer == nil {
		return
	}
	end := facts.Peer.NotAfter
	switch left := time.Until(end); {
	case left < 0:
		k.say(Warning, address, "renew it", "its certificate has ended on %s", end.UTC().Format(time.DateOnly))
	case left < soonEnds:
		k.say(Warning, address, "renew it", "its certificate ends on %s", end.UTC().Format(time.DateOnly))
	}
	if k.sv.TLS == config.TLSPrefer || k.sv.TLS == config.TLSRequire {
		k.say(Note, address, "set tls = verify-full and tls_ca_file in ["+k.sv.Name+"]",
			"%s, but tls = %s doesn't verify the certificate: somebody in between could be the server", tls.VersionName(facts.Version), k.sv.TLS)
		return
	}
	k.say(OK, address, "", "%s, certificate verified, until %s", tls.VersionName(facts.Version), end.UTC().Format(time.DateOnly))
}

// local says whether an address doesn't leave this machine.
func local(address string) bool {
	if strings.HasPrefix(address, "/") {
		return true
	}
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().IsLoopback()
}
