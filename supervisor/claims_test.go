package supervisor

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// claimWorld has worker 0 with one client, a backend of process 42 under the lease that
// is returned, and rounds 1 to 3 under way: activity, quiesce and report.
func claimWorld(t *testing.T) (*world, uint64) {
	t.Helper()
	w := newWorld(t, 2, func(c *config.Config) {
		c.AuthQuery, c.Superuser, c.Users = true, &config.Credential{Name: "s"}, []config.Credential{{Name: "has an entry"}}
		c.Limits = []config.Limit{{Database: config.Named("d"), Aliases: []string{"alias"}, User: config.Named("u"), MaxSize: 4}}
	})
	w.up()
	lease := w.lease(w.children[0], key("u"))
	w.say(w.children[0], &ipc.LeaseOpened{Lease: lease, PID: 42, Key: "abcd"})
	w.act(failover.AskActivity{Server: 0}, failover.Quiesce{Epoch: 1})
	w.s.askReports(true, func(*report) {})
	w.s.flush(ipc.FlushAll, "", func(control.FlushResponse, error) {})
	w.settle()
	return w, lease
}

// claims has for each message of a worker, by number, one that is true in a claimWorld,
// and lies that the supervisor must detect.
var claims = map[ipc.Number]struct {
	why    string // of a message that has no lies
	honest func(lease uint64) ipc.Message
	lies   map[string]func(lease uint64) ipc.Message
}{
	1:  {why: "see TestWorkerThatSaysHelloTwiceIsKilled"},
	4:  {why: "it says nothing"},
	16: {why: "it says nothing that is kept"},
	21: {
		honest: func(uint64) ipc.Message { return &ipc.Hint{Kind: ipc.HintSQLState, SQLState: "57P01", Epoch: 1} },
		lies: map[string]func(uint64) ipc.Message{
			"no server":                  func(uint64) ipc.Message { return &ipc.Hint{Kind: ipc.HintReset, Server: 2} },
			"no kind":                    func(uint64) ipc.Message { return &ipc.Hint{Kind: 99} },
			"an epoch that hasn't begun": func(uint64) ipc.Message { return &ipc.Hint{Kind: ipc.HintReset, Epoch: 2} },
			"no SQLSTATE": func(uint64) ipc.Message {
				return &ipc.Hint{Kind: ipc.HintSQLState, SQLState: strings.Repeat("x", 60_000)}
			},
		},
	},
	23: {why: "see TestWorkerThatLetsGoOfNothingIsKilled"},
	25: {
		honest: func(uint64) ipc.Message { return &ipc.Activity{ID: 1, AgesMS: []int64{900, -1}} },
		lies: map[string]func(uint64) ipc.Message{
			"too many servers": func(uint64) ipc.Message { return &ipc.Activity{ID: 1, AgesMS: make([]int64, 3)} },
			"before the start": func(uint64) ipc.Message { return &ipc.Activity{ID: 1, AgesMS: []int64{1 << 62}} },
			"below never":      func(uint64) ipc.Message { return &ipc.Activity{ID: 1, AgesMS: []int64{-2}} },
		},
	},
	26: {
		honest: func(lease uint64) ipc.Message {
			return &ipc.LoginSeen{Lease: lease, Version: strings.Repeat("1", 60_000)}
		},
		lies: map[string]func(uint64) ipc.Message{
			"another lease": func(lease uint64) ipc.Message { return &ipc.LoginSeen{Lease: lease + 1} },
			"no role":       func(lease uint64) ipc.Message { return &ipc.LoginSeen{Lease: lease, HotStandby: 9} },
		},
	},
	28: {
		honest: func(uint64) ipc.Message { return &ipc.Quiesced{ID: 2, Busy: 1} },
		lies: map[string]func(uint64) ipc.Message{
			"more than clients": func(uint64) ipc.Message { return &ipc.Quiesced{ID: 2, Busy: 2} },
			"below nothing":     func(uint64) ipc.Message { return &ipc.Quiesced{ID: 2, Busy: -1} },
		},
	},
	31: {
		honest: func(uint64) ipc.Message { return &ipc.ClientsGone{IDs: []uint64{1}} },
		lies: map[string]func(uint64) ipc.Message{
			"not its client": func(uint64) ipc.Message { return &ipc.ClientsGone{IDs: []uint64{9}} },
		},
	},
	32: {
		honest: func(uint64) ipc.Message { return &ipc.AdmitRequest{Client: 1, User: "u", Database: "d", Count: true} },
		lies: map[string]func(uint64) ipc.Message{
			"not its client": func(uint64) ipc.Message { return &ipc.AdmitRequest{Client: 9} },
			"large names":    func(uint64) ipc.Message { return &ipc.AdmitRequest{Client: 1, User: strings.Repeat("u", ipc.MaxKey+1)} },
		},
	},
	34: {why: "see TestWorkerThatLiesAboutASessionIsKilled"},
	36: {why: "see TestWorkerThatLiesAboutASessionIsKilled"},
	73: {why: "see TestWorkerThatLiesAboutASessionIsKilled"},
	40: {
		honest: func(uint64) ipc.Message {
			return &ipc.LeaseRequest{ID: 7, Key: key("u"), Requested: "alias", WaitedMS: 1 << 62}
		},
		lies: map[string]func(uint64) ipc.Message{
			"a large key": func(uint64) ipc.Message {
				return &ipc.LeaseRequest{ID: 7, Key: ipc.PoolKey{Database: "d", User: "u", Params: strings.Repeat("x", ipc.MaxKey)}}
			},
		},
	},
	43: {
		honest: func(uint64) ipc.Message { return &ipc.LeaseAbandon{ID: 99, Refused: 3} },
		lies: map[string]func(uint64) ipc.Message{
			"fewer than none": func(uint64) ipc.Message { return &ipc.LeaseAbandon{Refused: -1} },
			"too many":        func(uint64) ipc.Message { return &ipc.LeaseAbandon{Refused: 1 << 40} },
		},
	},
	44: {
		honest: nil, // said by claimWorld
		lies: map[string]func(uint64) ipc.Message{
			"twice": func(lease uint64) ipc.Message { return &ipc.LeaseOpened{Lease: lease, PID: 43} },
			"a large key": func(lease uint64) ipc.Message {
				return &ipc.LeaseOpened{Lease: lease, Key: ipc.Secret(make([]byte, maxSecret+1))}
			},
			"another lease": func(lease uint64) ipc.Message { return &ipc.LeaseOpened{Lease: lease + 1, PID: 43} },
		},
	},
	45: {
		honest: func(lease uint64) ipc.Message { return &ipc.LeaseReturn{Lease: lease} },
		lies: map[string]func(uint64) ipc.Message{
			"another lease": func(lease uint64) ipc.Message { return &ipc.LeaseReturn{Lease: lease + 1} },
		},
	},
	48: {why: "see TestWorkerThatLiesAboutABackendIsKilled"},
	50: {
		honest: func(uint64) ipc.Message { return &ipc.CancelRequest{ID: 1, Key: "abcd"} },
		lies: map[string]func(uint64) ipc.Message{
			"a large key": func(uint64) ipc.Message { return &ipc.CancelRequest{ID: 1, Key: ipc.Secret(make([]byte, maxSecret+1))} },
		},
	},
	52: {why: "an answer to no question is ignored"},
	54: {
		honest: func(uint64) ipc.Message { return askedFor("u", ipc.LoginMD5) },
		lies: map[string]func(uint64) ipc.Message{
			"no such server": func(uint64) ipc.Message {
				return &ipc.SecretRequest{Server: 2, User: "u", Question: ipc.Question{Method: ipc.LoginMD5}}
			},
			"no such question": func(uint64) ipc.Message { return askedFor("u", ipc.LoginTrust) },
			"a large name":     func(uint64) ipc.Message { return askedFor(strings.Repeat("u", ipc.MaxKey), ipc.LoginMD5) },
			"a large salt": func(uint64) ipc.Message {
				m := askedFor("u", ipc.LoginSCRAM)
				m.Question.Salt = strings.Repeat("s", ipc.MaxLoginSalt+1)
				return m
			},
		},
	},
	56: {
		honest: func(uint64) ipc.Message { return &ipc.PeerRequest{ID: 1, Address: "192.0.2.1", Hosts: true} },
		lies: map[string]func(uint64) ipc.Message{
			"a name":           func(uint64) ipc.Message { return &ipc.PeerRequest{Address: "name.test", Hosts: true} },
			"a mapped address": func(uint64) ipc.Message { return &ipc.PeerRequest{Address: "::ffff:192.0.2.1"} },
			"a zone":           func(uint64) ipc.Message { return &ipc.PeerRequest{Address: "fe80::1%eth0"} },
		},
	},
	59: {
		honest: nil,
		lies: map[string]func(uint64) ipc.Message{
			"a lease that a client asked for": func(lease uint64) ipc.Message { return &ipc.AheadFailed{Lease: lease} },
			"another lease":                   func(lease uint64) ipc.Message { return &ipc.AheadFailed{Lease: lease + 1} },
			"a large text": func(lease uint64) ipc.Message {
				return &ipc.AheadFailed{Lease: lease, Error: strings.Repeat("x", ipc.MaxAheadError+1)}
			},
		},
	},
	78: {
		honest: func(uint64) ipc.Message { return storedOf("u", 1<<62) },
		lies: map[string]func(uint64) ipc.Message{
			"a large name":    func(uint64) ipc.Message { return storedOf(strings.Repeat("u", ipc.MaxKey+1), 1) },
			"a negative time": func(uint64) ipc.Message { return storedOf("u", -1) },
		},
	},
	61: {honest: func(uint64) ipc.Message { return &ipc.Report{ID: 3} }},
	62: {
		honest: func(uint64) ipc.Message { return &ipc.ReportSession{ID: 3} },
		lies: map[string]func(uint64) ipc.Message{
			"large texts": func(uint64) ipc.Message { return &ipc.ReportSession{ID: 3, AppName: strings.Repeat("x", maxSession+1)} },
		},
	},
	63: {why: "it says nothing"},
	65: {
		honest: func(uint64) ipc.Message { return &ipc.Flushed{ID: 4, Closed: 1} },
		lies: map[string]func(uint64) ipc.Message{
			"more than leases":  func(uint64) ipc.Message { return &ipc.Flushed{ID: 4, Closed: 1, Marked: 1} },
			"so many":           func(uint64) ipc.Message { return &ipc.Flushed{ID: 4, Closed: 1, Marked: math.MaxInt} },
			"fewer than none":   func(uint64) ipc.Message { return &ipc.Flushed{ID: 4, Closed: -1} },
			"a negative number": func(uint64) ipc.Message { return &ipc.Flushed{ID: 4, Marked: -1} },
		},
	},
	67:  {why: "an answer to no question is ignored"},
	71:  {why: "it says nothing"},
	133: {why: "see TestWorkerThatSendsTooManyFiguresIsKilled"},
	134: {why: "it says nothing"},
}

// Every message that a worker may send is in the table above.
func TestWorkerThatSaysWhatCannotBeTrueIsKilled(t *testing.T) {
	for n := ipc.Number(0); n < 1000; n++ {
		row, ok := ipc.Lookup(n)
		if !ok || row.From != ipc.RoleWorker {
			continue
		}
		c, ok := claims[n]
		if !ok {
			t.Errorf("nothing says what is checked of %s", row.Name)
		}
		if c.honest != nil {
			t.Run(row.Name, func(t *testing.T) {
				w, lease := claimWorld(t)
				w.letIn(w.children[0])
				w.children[0].message(c.honest(lease))
				w.settle()
				if w.children[0].killed {
					t.Error("killed for the truth")
				}
			})
		}
		for name, lie := range c.lies {
			t.Run(row.Name+", "+name, func(t *testing.T) {
				w, lease := claimWorld(t)
				w.children[0].message(lie(lease))
				w.settle()
				if !w.children[0].killed {
					t.Error("believed")
				}
			})
		}
	}
}

// What the supervisor keeps for a worker grows with the worker's clients alone.
func TestWorkerAsksForAsManyBackendsAsItHasClients(t *testing.T) {
	w := newWorld(t, 1, oneConnection)
	w.up()
	w.lease(w.children[0], key("u"))
	const clients = 20
	for range clients - 1 {
		w.letIn(w.children[0])
	}
	for id := range uint64(clients) {
		w.children[0].message(&ipc.LeaseRequest{ID: id, Key: key("u")})
		w.settle()
	}
	if n := w.s.ledger.Waiting(0); n != clients || w.children[0].killed {
		t.Fatalf("%d of %d requests wait, killed %v", n, clients, w.children[0].killed)
	}
	w.children[0].message(&ipc.LeaseRequest{ID: clients, Key: key("u")})
	w.settle()
	if n := w.s.ledger.Waiting(0); n > clients || !w.children[0].killed {
		t.Errorf("%d requests wait for %d clients, killed %v", n, clients, w.children[0].killed)
	}
}

func TestWorkerThatSaysHelloTwiceIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.s.startWorkers()
	w.settle()
	w.say(w.children[0], &ipc.WorkerHello{Version: ipc.Version})
	sent := len(w.children[0].sent)
	w.say(w.children[0], &ipc.WorkerHello{Version: ipc.Version})
	if !w.children[0].killed || len(w.children[0].sent) != sent {
		t.Errorf("killed %v; it was sent %d messages, then %d", w.children[0].killed, sent, len(w.children[0].sent))
	}
}

func TestWorkerThatAsksTwiceUnderOneIDIsKilled(t *testing.T) {
	w := newWorld(t, 1, oneConnection)
	w.up()
	w.lease(w.children[0], key("u"))
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u"), NoWait: true})
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u")})
	if !w.children[0].killed {
		t.Error("not killed")
	}
}

func TestWorkerThatReportsMoreThanItHasIsKilled(t *testing.T) {
	for name, say := range map[string]func(w *world){
		"sessions": func(w *world) {
			for range 2 { // of a backend and of a client
				w.say(w.children[0], &ipc.ReportSession{ID: 3})
			}
			if w.children[0].killed {
				w.t.Fatal("killed for what it has")
			}
			w.say(w.children[0], &ipc.ReportSession{ID: 3})
		},
		"counters": func(w *world) { w.say(w.children[0], &ipc.Report{ID: 3}) },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := claimWorld(t)
			w.say(w.children[0], &ipc.Report{ID: 3})
			if say(w); !w.children[0].killed {
				t.Error("not killed")
			}
		})
	}
}

// One worker's cancel requests leave room for those of the others.
func TestCancelsOfAWorkerAreAsManyAsItsClients(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.letIn(w.children[0])
	for id := range uint64(5) {
		w.children[0].message(&ipc.CancelRequest{ID: id})
		w.settle()
	}
	if n := len(w.s.cancels.pending); n != 1 {
		t.Errorf("%d are looked for", n)
	}
	if n := len(messagesOf[*ipc.CancelDone](w.children[0])); n != 4 || w.children[0].killed {
		t.Errorf("%d ended at once", n)
	}
}

// A client can't overtake others by claiming a waiting time that is impossible.
func TestTimeThatAClientHasWaitedIsBounded(t *testing.T) {
	w := newWorld(t, 2, oneConnection, func(c *config.Config) { c.BlockingTimeout = 30 * time.Second })
	w.up()
	lease := w.lease(w.children[0], key("u"))
	w.live(time.Minute)
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u"), WaitedMS: 29_999})
	w.live(10 * time.Second)
	w.say(w.children[1], &ipc.LeaseRequest{ID: 2, Key: key("u"), WaitedMS: 1 << 40})
	w.say(w.children[0], &ipc.LeaseReturn{Lease: lease})
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[1])); n != 0 {
		t.Error("a client came before one that has waited for 40 s")
	}
}

func TestWorkerThatLetsGoOfNothingIsKilled(t *testing.T) {
	for name, tt := range map[string]struct {
		m      ipc.Fenced
		keep   bool
		killed bool
	}{
		"it has returned its leases":  {ipc.Fenced{Epoch: 1, Seq: 1, Aborted: 1, Sessions: 1}, false, false},
		"it still has a backend":      {ipc.Fenced{Epoch: 1, Seq: 1}, true, true},
		"another epoch":               {ipc.Fenced{Epoch: 0, Seq: 1}, false, true},
		"more sessions than backends": {ipc.Fenced{Epoch: 1, Seq: 1, Sessions: 1}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, lease := claimWorld(t)
			w.act(failover.Fence{Epoch: 1, Seq: 1})
			if !tt.keep {
				w.say(w.children[0], &ipc.LeaseReturn{Lease: lease})
			}
			w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
			w.say(w.children[0], &tt.m)
			if got := w.children[0].killed; got != tt.killed {
				t.Errorf("killed: %v", got)
			}
			if n := len(eventsOf[failover.Fenced](w)); (n == 0) != tt.killed {
				t.Errorf("the machine heard of %d fences", n)
			}
		})
	}
}

func TestWorkerThatLiesAboutABackendIsKilled(t *testing.T) {
	for name, lie := range map[string]func(*ipc.BackendState){
		"pool":               func(b *ipc.BackendState) { b.Key.User = "admin" },
		"server":             func(b *ipc.BackendState) { b.Server = 1 },
		"epoch":              func(b *ipc.BackendState) { b.Epoch = 2 },
		"process":            func(b *ipc.BackendState) { b.PID = 43 },
		"secret":             func(b *ipc.BackendState) { b.Secret = "wxyz" },
		"age":                func(b *ipc.BackendState) { b.AgeMS = 1 << 60 },
		"age, in the future": func(b *ipc.BackendState) { b.AgeMS = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			w, m := handOverWorld(t)
			fd, server := w.connection()
			lie(&m.Backend)
			w.say(w.children[0], m, fd)
			wantReset(t, server)
			if n := len(messagesOf[*ipc.TakeOver](w.children[1])); n != 0 || !w.children[0].killed {
				t.Errorf("passed on %d times, killed %v", n, w.children[0].killed)
			}
		})
	}
}

// A worker that was taken over could hand over a connection to a server of its own,
// which would then get other clients' queries. The lease is free again.
func TestBackendThatLeadsElsewhereIsNotPassedOn(t *testing.T) {
	w, m := handOverWorld(t)
	var log logBuffer
	w.s.log = log.logger()
	w.connection() // where the server is
	fd, elsewhere := connection(t)
	w.say(w.children[0], m, fd)
	wantReset(t, elsewhere)
	if n := len(messagesOf[*ipc.TakeOver](w.children[1])) + len(messagesOf[*ipc.TakeOver](w.children[0])); n != 0 {
		t.Error("passed on")
	}
	if g := messagesOf[*ipc.LeaseGrant](w.children[1]); len(g) != 1 || w.s.ledger.Counts().Total != 1 {
		t.Errorf("granted %v", g)
	}
	if n := len(log.lines("backend isn't passed on")); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// descriptorOf returns the descriptor of a connection, which ends with the test.
func descriptorOf(t *testing.T, c net.Conn) int {
	t.Helper()
	f, err := c.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); c.Close() })
	return int(f.Fd())
}

func TestWhereADescriptorLeads(t *testing.T) {
	listen := func(network, address string) net.Listener {
		ln, err := new(net.ListenConfig).Listen(context.Background(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	dial := func(network, address string) int {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		return descriptorOf(t, c)
	}
	v4, v6, un := listen("tcp4", "127.0.0.1:0"), listen("tcp6", "[::1]:0"), listen("unix", t.TempDir()+"/s")
	port := func(l net.Listener) string { _, p, _ := net.SplitHostPort(l.Addr().String()); return p }
	udp, err := net.ListenPacket("udp4", "127.0.0.1:"+port(v4))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	for name, tt := range map[string]struct {
		fd   int
		a    address
		want error
	}{
		"IPv4":                     {dial("tcp", v4.Addr().String()), address{"tcp", v4.Addr().String()}, nil},
		"IPv6":                     {dial("tcp", v6.Addr().String()), address{"tcp", v6.Addr().String()}, nil},
		"Unix":                     {dial("unix", un.Addr().String()), address{"unix", un.Addr().String()}, nil},
		"any address of this host": {dial("tcp", v4.Addr().String()), address{"tcp", "0.0.0.0:" + port(v4)}, nil},
		"IPv4 in IPv6":             {dial("tcp", v4.Addr().String()), address{"tcp", "[::ffff:127.0.0.1]:" + port(v4)}, nil},
		"another port":             {dial("tcp", v4.Addr().String()), address{"tcp", "127.0.0.1:1"}, errOtherPeer},
		"another address":          {dial("tcp", v4.Addr().String()), address{"tcp", "127.0.0.2:" + port(v4)}, errOtherPeer},
		"Unix instead of TCP":      {dial("unix", un.Addr().String()), address{"tcp", v4.Addr().String()}, errOtherPeer},
		"TCP instead of Unix":      {dial("tcp", v4.Addr().String()), address{"unix", un.Addr().String()}, errOtherPeer},
		"UDP":                      {dial("udp", v4.Addr().String()), address{"tcp", v4.Addr().String()}, errOtherPeer},
		"no socket":                {int(reader.Fd()), address{"tcp", v4.Addr().String()}, errOtherPeer},
		"no address is known":      {dial("tcp", v4.Addr().String()), address{}, errOtherPeer},
	} {
		t.Run(name, func(t *testing.T) {
			if err := leadsTo(tt.fd, tt.a); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// A server that ends a connection on its way is no lie of a worker.
func TestBackendThatItsServerHasResetIsReturnedInSilence(t *testing.T) {
	w, m := handOverWorld(t)
	var log logBuffer
	w.s.log = log.logger()
	fd, server := w.connection()
	_ = server.(*net.TCPConn).SetLinger(0)
	server.Close()
	events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(events, 10_000); n != 1 || err != nil {
		t.Fatalf("poll: %d, %v", n, err)
	}
	w.say(w.children[0], m, fd)
	if g := messagesOf[*ipc.LeaseGrant](w.children[1]); len(g) != 1 || w.children[0].killed {
		t.Errorf("granted %v, killed %v", g, w.children[0].killed)
	}
	if log.Len() > 0 && len(log.lines("backend isn't passed on")) > 0 {
		t.Error("it is in the log")
	}
}
