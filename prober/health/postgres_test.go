package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/ipc"
)

var (
	super   = Login{User: "postgres", Database: "postgres"}
	plain   = Login{User: "plain", Database: "postgres"}
	monitor = Login{User: "monitor", Database: "postgres"}
	scram   = Login{User: "scram", Database: "postgres", Password: "pa:ss w\u00f6rd"}
	hba     = []string{"host all scram 127.0.0.1/32 scram-sha-256", "host all nobody 127.0.0.1/32 reject", "host all all 127.0.0.1/32 trust"}
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, n *pgtest.Node, sql string) string {
	t.Helper()
	out, err := n.Query(t.Context(), sql)
	check(t, err)
	return out
}

// addUsers makes the users above; standbys have them as soon as they have replayed.
func addUsers(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	query(t, c.Primary(), "CREATE ROLE plain LOGIN")
	query(t, c.Primary(), "CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor")
	query(t, c.Primary(), "CREATE ROLE scram LOGIN REPLICATION PASSWORD '"+scram.Password+"'")
	for _, s := range c.Standbys() {
		check(t, s.WaitReplay(t.Context(), c.Primary()))
	}
}

func at(n *pgtest.Node, logins ...Login) Target {
	return Target{Network: "tcp", Address: n.Addr(), Timeout: ample, Logins: logins}
}

func systemID(t *testing.T, n *pgtest.Node) uint64 {
	t.Helper()
	id, err := strconv.ParseUint(query(t, n, "SELECT system_identifier FROM pg_control_system()"), 10, 64)
	check(t, err)
	return id
}

func lsnOf(t *testing.T, n *pgtest.Node) uint64 {
	t.Helper()
	got, err := n.LSN(t.Context())
	check(t, err)
	return got
}

// written replaces positions by whether they are known, as 1 or 0.
func written(o ipc.Observation) (write, receive, replay uint64) {
	return min(o.WriteLSN, 1), min(o.ReceiveLSN, 1), min(o.ReplayLSN, 1)
}

func TestPrimaryAndStandbyAreObserved(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 1, HBA: hba, SyncStandbys: "n2"})
	primary, standby := c.Nodes[0], c.Nodes[1]
	addUsers(t, c)
	pgtest.Eventually(t, ample, "a synchronous standby", func() error {
		if got := query(t, primary, "SELECT sync_state FROM pg_stat_replication"); got != "sync" {
			return fmt.Errorf("state %q", got)
		}
		return nil
	})
	id := systemID(t, primary)
	slot := query(t, standby, "SELECT coalesce(slot_name, '') FROM pg_stat_wal_receiver")
	from := func(seen bool, o ipc.Observation) ipc.Observation {
		if seen {
			o.Receiver, o.SenderHost, o.SenderPort = ipc.ReceiverStreaming, primary.Host, strconv.Itoa(primary.Port)
			o.LastMsgKnown, o.ReceiverWord, o.SlotName, o.ReceiverTimeout = true, "streaming", slot, receiverTimeout(t, standby)
		}
		return o
	}
	onPrimary := ipc.Observation{SystemID: id, Timeline: 1, WriteLSN: 1}
	withSync := onPrimary
	withSync.SyncStandbys = []string{"n2"}
	onStandby := ipc.Observation{SystemID: id, Timeline: 1, ReceiveLSN: 1, ReplayLSN: 1}
	tests := []struct {
		node    *pgtest.Node
		login   Login
		outcome ipc.Outcome
		obs     ipc.Observation
	}{
		{primary, super, ipc.SawPrimary, withSync},
		{primary, monitor, ipc.SawPrimary, withSync},
		{primary, plain, ipc.SawPrimary, onPrimary},
		{primary, scram, ipc.SawPrimary, onPrimary},
		{standby, super, ipc.SawStandby, from(true, onStandby)},
		{standby, monitor, ipc.SawStandby, from(true, onStandby)},
		{standby, plain, ipc.SawStandby, from(false, onStandby)},
	}
	for _, tt := range tests {
		t.Run(tt.login.User+" on "+tt.node.Name, func(t *testing.T) {
			before := lsnOf(t, tt.node)
			got := probe(t, at(tt.node, tt.login))
			after := lsnOf(t, tt.node)
			expect(t, got, tt.outcome, "")
			// An idle server writes at times, too.
			if pos := max(got.Obs.WriteLSN, got.Obs.ReceiveLSN, got.Obs.ReplayLSN); before == 0 || pos < before || pos > after {
				t.Errorf("position %d, want %d to %d", pos, before, after)
			}
			if got.Obs.PostmasterStart == 0 || got.Obs.Checkpoint == 0 {
				t.Errorf("postmaster started at %d, checkpoint %d", got.Obs.PostmasterStart, got.Obs.Checkpoint)
			}
			got.Obs.PostmasterStart, got.Obs.Checkpoint = 0, 0
			got.Obs.WriteLSN, got.Obs.ReceiveLSN, got.Obs.ReplayLSN = written(got.Obs)
			if got.Obs.LastMsgAge < 0 || got.Obs.LastMsgAge > ample {
				t.Errorf("the last message came %v ago", got.Obs.LastMsgAge)
			}
			got.Obs.LastMsgAge = 0
			if want := query(t, tt.node, "SHOW server_version"); got.Version != want {
				t.Errorf("version %q, want %q", got.Version, want)
			}
			if diff := cmp.Diff(tt.obs, got.Obs); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("over a Unix socket", func(t *testing.T) {
		target := at(primary, super)
		target.TLS = tlsdial.With(&tls.Config{}) // never there
		target.Network, target.Address = "unix", filepath.Join(primary.SocketDir, fmt.Sprintf(".s.PGSQL.%d", primary.Port))
		expect(t, probe(t, target), ipc.SawPrimary, "")
	})
	t.Run("goes on to the login that is let in", func(t *testing.T) {
		wrong, missing, nobody := scram, super, Login{User: "nobody", Database: "postgres"}
		wrong.Password, missing.Database = "wrong", "missing"
		expect(t, probe(t, at(primary, wrong)), ipc.SawAlive, "28P01")
		expect(t, probe(t, at(primary, missing)), ipc.SawAlive, "3D000")
		expect(t, probe(t, at(primary, nobody)), ipc.SawAlive, "28000")
		expect(t, probe(t, at(standby, wrong, missing, nobody, scram)), ipc.SawStandby, "")
	})
	t.Run("without a login", func(t *testing.T) {
		if got := probe(t, at(primary)); got.Outcome != ipc.SawAlive {
			t.Errorf("saw %v", got.Outcome)
		}
	})
}

func TestTimelineAfterAPromotion(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	first, second, third := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	check(t, first.Kill())
	check(t, second.Promote(t.Context()))
	got := probe(t, at(second, super))
	expect(t, got, ipc.SawPrimary, "")
	if got.Obs.Timeline != 2 {
		t.Errorf("promoted: timeline %d, want 2", got.Obs.Timeline)
	}
	got = probe(t, at(third, super))
	expect(t, got, ipc.SawStandby, "")
	if got.Obs.Timeline != 1 || got.Obs.Receiver != ipc.ReceiverGone {
		t.Errorf("orphan: timeline %d, receiver %d, want 1 and none", got.Obs.Timeline, got.Obs.Receiver)
	}
	check(t, third.Follow(t.Context(), second.Host, second.Port))
	check(t, third.WaitStreaming(t.Context(), second))
	query(t, second, "CREATE TABLE t ()")
	check(t, third.WaitReplay(t.Context(), second))
	if got := probe(t, at(third, super)).Obs; got.Timeline != 2 {
		t.Errorf("follower: timeline %d, want 2", got.Timeline)
	}
}

// PostgreSQL can't promote it: "invalid magic number in log segment".
func TestAStandbyThatHasHalfOfASegmentOfTheNewTimelineIsNotOnIt(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	first, second, third := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	query(t, first, "SELECT pg_switch_wal()")
	query(t, first, "SELECT pg_logical_emit_message(true, 'fill', repeat('x', 8000000))")
	for _, standby := range c.Standbys() {
		check(t, standby.WaitReplay(t.Context(), first))
	}
	check(t, first.Kill())
	check(t, second.Promote(t.Context()))
	// The segment comes twice, 8 MB each: on the old timeline, and on the new one.
	x := pgtest.NewProxy(t, second.Addr())
	silent := x.SilenceAfter(12_000_000)
	check(t, third.Follow(t.Context(), "127.0.0.1", x.Port()))
	select {
	case <-silent:
	case <-time.After(time.Minute):
		t.Fatal("half of the segment hasn't come")
	}
	pgtest.WaitUntil(t, time.Minute, "the new timeline to be streamed", func() bool {
		return query(t, third, "SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'") == "2"
	})
	if got := probe(t, at(third, super)).Obs; got.Timeline != 1 || got.Receiver != ipc.ReceiverStreaming {
		t.Errorf("with half of the segment: timeline %d, receiver %d, want 1 and one that streams", got.Timeline, got.Receiver)
	}
	x.Unsilence()
	pgtest.WaitUntil(t, time.Minute, "timeline 2 to be told", func() bool { return probe(t, at(third, super)).Obs.Timeline == 2 })
}

func TestDelayedAndPausedStandbysAreTold(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	standby := c.Nodes[1]
	paused := func() bool { return probe(t, at(standby, super)).Obs.Paused }
	if paused() {
		t.Error("a plain standby counts as paused")
	}
	query(t, standby, "SELECT pg_wal_replay_pause()")
	if !paused() {
		t.Error("a paused standby doesn't count as paused")
	}
	query(t, standby, "SELECT pg_wal_replay_resume()")
	check(t, standby.Set(t.Context(), "recovery_min_apply_delay", "5min"))
	if !paused() {
		t.Error("a delayed standby doesn't count as paused")
	}
}

func TestCommitsThatWaitForAStandbyAreTold(t *testing.T) {
	primary := pgtest.New(t, pgtest.Options{}).Primary()
	if probe(t, at(primary, super)).Obs.SyncWaiting {
		t.Error("waiting before anything waits")
	}
	check(t, primary.Set(t.Context(), "synchronous_standby_names", "gone"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := primary.Query(ctx, "CREATE TABLE t ()")
		ended <- err
	}()
	pgtest.WaitUntil(t, ample, "a commit that waits", func() bool {
		got := probe(t, at(primary, super)) // itself doesn't wait: it writes nothing
		return got.Outcome == ipc.SawPrimary && got.Obs.SyncWaiting
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("the commit didn't wait")
	}
}

func TestRefusedDetailsKeepTheRole(t *testing.T) {
	primary := pgtest.New(t, pgtest.Options{}).Primary()
	query(t, primary, "CREATE ROLE plain LOGIN")
	query(t, primary, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	got := probe(t, at(primary, plain))
	expect(t, got, ipc.SawPrimary, "")
	if got.Obs.SystemID != 0 || got.Obs.WriteLSN == 0 || got.Obs.Timeline != 1 {
		t.Errorf("observed %+v, want all but the system identifier", got.Obs)
	}
	query(t, primary, "REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn), pg_stat_get_wal_senders() FROM PUBLIC")
	got = probe(t, at(primary, plain))
	expect(t, got, ipc.SawPrimary, "")
	if diff := cmp.Diff(ipc.Observation{}, got.Obs); diff != "" {
		t.Error(diff)
	}
}

func TestStoppedServerIsSilentAndKilledOneRefuses(t *testing.T) {
	n := pgtest.New(t, pgtest.Options{}).Primary()
	brief := at(n, super)
	brief.Timeout = short
	check(t, n.Pause())
	expect(t, probe(t, brief), ipc.SawSilent, "")
	brief.Logins = nil
	expect(t, probe(t, brief), ipc.SawSilent, "")
	check(t, n.Resume())
	expect(t, probe(t, at(n, super)), ipc.SawPrimary, "")
	check(t, n.Kill())
	expect(t, probe(t, at(n, super)), ipc.SawRefused, "")
	expect(t, probe(t, at(n)), ipc.SawRefused, "")
}

func TestServerThatStartsOrStopsIsStarting(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	primary, standby := c.Nodes[0], c.Nodes[1]

	// A smart shutdown waits for its clients and refuses new ones.
	client, err := primary.Dial(t.Context())
	check(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- primary.Stop(context.WithoutCancel(t.Context()), pgtest.Smart) }()
	pgtest.WaitUntil(t, ample, "57P03", func() bool {
		got := probe(t, at(primary, super))
		return got.Outcome == ipc.SawStarting && got.Code == "57P03"
	})
	expect(t, probe(t, at(primary)), ipc.SawStarting, "57P03")
	check(t, client.Close())
	check(t, <-stopped)

	// A standby without hot_standby never lets anybody in, which here stands for a long start.
	check(t, standby.Set(t.Context(), "hot_standby", "off"))
	check(t, standby.Stop(t.Context(), pgtest.Fast))
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- standby.Start(ctx) }()
	pgtest.WaitUntil(t, ample, "57P03", func() bool {
		return probe(t, at(standby, super)).Outcome == ipc.SawStarting
	})
	cancel()
	if err := <-started; err == nil {
		t.Error("the standby lets clients in")
	}
}

func TestFullServerIsAlive(t *testing.T) {
	n := pgtest.New(t, pgtest.Options{Extra: map[string]string{
		"max_connections": "4", "superuser_reserved_connections": "2", "max_wal_senders": "0",
	}}).Primary()
	query(t, n, "CREATE ROLE plain LOGIN")
	for range 2 {
		// The sessions that prepared all this may take a moment to go.
		pgtest.Eventually(t, ample, "a place for a client", func() error {
			client, err := pgtest.Connect(t.Context(), n.Config("plain", "", "postgres"))
			if err == nil {
				t.Cleanup(func() { _ = client.Close() })
			}
			return err
		})
	}
	expect(t, probe(t, at(n, plain)), ipc.SawAlive, "53300")
	expect(t, probe(t, at(n, super)), ipc.SawPrimary, "")
}

func TestBackendsTellsWhichProcessesLive(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{HBA: hba})
	n := c.Primary()
	addUsers(t, c)
	cl, err := pgtest.Connect(t.Context(), pgtest.ClientConfig{Addr: n.Addr(), User: "postgres", Database: "postgres"})
	check(t, err)
	defer cl.Close()
	const nobody = 4_000_000_000
	wanted := []uint32{nobody, cl.PID}
	for pid := range uint32(2 * backendsAtOnce) { // more than one question holds
		wanted = append(wanted, nobody-1-pid)
	}
	// The first login is refused, the second sees other users' processes without any right.
	shown, err := Backends(t.Context(), at(n, Login{User: "nobody", Database: "postgres"}, plain), wanted)
	check(t, err)
	if diff := cmp.Diff([]uint32{cl.PID}, shown); diff != "" {
		t.Error(diff)
	}
	cl.Close()
	pgtest.Eventually(t, ample, "its end", func() error {
		shown, err := Backends(t.Context(), at(n, plain), wanted)
		if err == nil && len(shown) > 0 {
			err = fmt.Errorf("%v are shown", shown)
		}
		return err
	})
	if _, err := Backends(t.Context(), at(n, Login{User: "nobody", Database: "postgres"}), wanted); err == nil {
		t.Error("an answer without a login")
	}
	if _, err := Backends(t.Context(), at(n), wanted); err == nil {
		t.Error("an answer without any login")
	}
	check(t, n.Kill())
	if _, err := Backends(t.Context(), at(n, plain), wanted); err == nil {
		t.Error("an answer of a dead server")
	}
}

func TestProbeLeavesNothingOnTheServer(t *testing.T) {
	n := pgtest.New(t, pgtest.Options{}).Primary()
	descriptors := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(open)
	}
	expect(t, probe(t, at(n, super)), ipc.SawPrimary, "")
	before := descriptors()
	for range 10 {
		expect(t, probe(t, at(n, super)), ipc.SawPrimary, "")
		expect(t, probe(t, at(n, plain)), ipc.SawAlive, "28000")
		expect(t, probe(t, at(n)), ipc.SawAlive, codeNoLogin)
	}
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
	pgtest.Eventually(t, ample, "the end of the sessions", func() error {
		left := query(t, n, "SELECT count(*) FROM pg_stat_activity WHERE application_name = '"+applicationName+"'")
		if left != "0" {
			return fmt.Errorf("%s sessions", left)
		}
		return nil
	})
}

func TestTLS(t *testing.T) {
	certPEM, keyPEM := certificate(t)
	encrypted := pgtest.New(t, pgtest.Options{
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "test.crt", "ssl_key_file": "test.key", "ssl_ca_file": "test.crt"},
		Files: map[string][]byte{"test.crt": certPEM, "test.key": keyPEM},
		HBA:   []string{"hostssl all scram 127.0.0.1/32 scram-sha-256"},
	})
	bare := pgtest.New(t, pgtest.Options{}).Primary()
	addUsers(t, encrypted)
	target := at(encrypted.Primary(), scram)
	expect(t, probe(t, target), ipc.SawAlive, "28000")
	target.TLS = tlsdial.With(&tls.Config{InsecureSkipVerify: true})
	expect(t, probe(t, target), ipc.SawPrimary, "")
	target.TLS = tlsdial.With(&tls.Config{ServerName: "another"})
	refused := probe(t, target)
	expect(t, refused, ipc.SawAlive, codeTLS)
	if !strings.Contains(refused.Words, "certificate") {
		t.Errorf("words of the failure: %q", refused.Words)
	}
	// With TLS 1.3 the refusal of our certificate comes after our side's end of the handshake.
	stranger, err := tls.X509KeyPair(certificate(t))
	check(t, err)
	target.TLS = tlsdial.With(&tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil },
	})
	expect(t, probe(t, target), ipc.SawAlive, codeTLS)
	target.TLS = tlsdial.With(&tls.Config{InsecureSkipVerify: true})

	target.Address = bare.Addr()
	expect(t, probe(t, target), ipc.SawAlive, codeTLS)
	for _, tt := range []struct {
		name    string
		script  pgtest.Script
		timeout time.Duration
		outcome ipc.Outcome
		code    string
	}{
		{"silent", pgtest.Script{Steps: []pgtest.Step{pgtest.Swallow()}}, short, ipc.SawSilent, ""},
		{"closes", pgtest.Script{}, ample, ipc.SawRefused, ""},
		{"resets inside the handshake", pgtest.Script{Steps: []pgtest.Step{pgtest.SendBytes([]byte("S")), pgtest.Swallow()}, ResetAfterReceived: 40}, ample, ipc.SawRefused, ""},
		{"garbage inside the handshake", pgtest.Script{Steps: []pgtest.Step{pgtest.SendBytes([]byte("SGARBAGE")), pgtest.Swallow()}}, ample, ipc.SawAlive, codeTLS},
		{"garbage instead", pgtest.Script{Steps: []pgtest.Step{pgtest.SendBytes([]byte("E")), pgtest.Swallow()}}, ample, ipc.SawAlive, codeProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target.Address, target.Timeout = pgtest.NewFake(t, tt.script).Addr(), tt.timeout
			expect(t, probe(t, target), tt.outcome, tt.code)
		})
	}
}

func TestSettingsAreReadInTheirUnits(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Extra: map[string]string{"wal_receiver_timeout": "7s", "synchronous_standby_names": "x, y", "synchronous_commit": "local"}})
	got, err := Settings(t.Context(), at(c.Primary(), Login{User: "nobody-there", Database: "postgres"}, super), []string{"wal_receiver_timeout", "synchronous_standby_names", "no_such"})
	check(t, err)
	if d := cmp.Diff(map[string]string{"wal_receiver_timeout": "7000", "synchronous_standby_names": "x, y"}, got); d != "" {
		t.Error(d)
	}
	if _, err := Settings(t.Context(), Target{Network: "tcp", Address: c.Primary().Addr(), Timeout: ample}, []string{"port"}); err == nil {
		t.Error("settings without a login")
	}
}

// receiverTimeout is a server's wal_receiver_timeout.
func receiverTimeout(t *testing.T, n *pgtest.Node) time.Duration {
	t.Helper()
	ms, err := strconv.Atoi(query(t, n, "SELECT setting FROM pg_settings WHERE name = 'wal_receiver_timeout'"))
	check(t, err)
	return time.Duration(ms) * time.Millisecond
}
