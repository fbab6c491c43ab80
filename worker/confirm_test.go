package worker

import (
	"crypto/md5"
	"encoding/hex"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// proves plays a server that asks for md5: it reports whether the answer is right for the hash that it stores.
func proves(nc net.Conn, stored string) bool {
	salt := [4]byte{1, 2, 3, 4}
	if _, err := nc.Write(pgwire.AppendAuthenticationMD5(nil, salt)); err != nil {
		return false
	}
	_, body, err := pgwire.ReadMessage(nc, 1000)
	sum := md5.Sum(append([]byte(stored), salt[:]...))
	return err == nil && string(body) == "md5"+hex.EncodeToString(sum[:])+"\x00"
}

// lookUpRig has a server that stores a password of u: "right".
func lookUpRig(t *testing.T, pipeline string) *rig {
	t.Helper()
	r := newRig(t, ipc.ConfigBegin{
		Pipeline: pipeline, Failover: true, BlockingTimeoutMS: generous.Milliseconds(), ConnectionRetryMS: 10,
		AuthQuery: ipc.AuthQuery{On: true, MaxAgeMS: time.Hour.Milliseconds(), MaxUsers: 2, MD5: true},
	})
	r.stores = auth.MD5Secret("u", "right")
	return r
}

// proven looks up that a password is stored for u, and has a client prove it.
func (r *rig) proven(password string) *storedUser {
	r.t.Helper()
	u := r.learn("u", hash("u", password))
	r.do(func() { u.proof = u.stored.Check("u", password) })
	return u
}

// enterProven begins the session of a client that has proven its password.
func (r *rig) enterProven(id uint64, u *storedUser) *testClient {
	r.t.Helper()
	return r.connectAs(id, &login{stored: u}, (*session).enter)
}

func (r *rig) confirmed(u *storedUser) (yes bool) {
	r.t.Helper()
	r.do(func() { yes = u.confirmed })
	return yes
}

// TestAnAnswerOpensTheWayToIdleBackendsOnceThePrimaryHasConfirmedIt has somebody who can make up what is stored of a user.
func TestAnAnswerOpensTheWayToIdleBackendsOnceThePrimaryHasConfirmedIt(t *testing.T) {
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			r := lookUpRig(t, pipeline)
			u := r.proven("right")
			first := r.enterProven(1, u)
			ask := expect[*ipc.LeaseRequest](r)
			if !ask.Unproven || r.confirmed(u) {
				t.Errorf("asks as one who is known: %+v", ask)
			}
			r.grant(ask.ID)
			r.nextLogin()
			first.until(t, &pgproto3.ReadyForQuery{})
			if !r.confirmed(u) {
				t.Error("a login at the primary confirms nothing")
			}
			first.Close()
			expect[*ipc.ClientsGone](r)
			r.enterProven(2, u).until(t, &pgproto3.ReadyForQuery{}) // there is no lease for it
			r.do(func() { r.w.clients[2].session.leave(false) })
			expect[*ipc.ClientsGone](r)

			forger := r.enterProven(3, r.proven("forged"))
			r.grant(expect[*ipc.LeaseRequest](r).ID)
			if got := forger.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); got.Code != pgwire.CodeInvalidPassword {
				t.Errorf("the forger gets %s %s", got.Code, got.Message)
			}
			r.do(func() {
				if n := len(r.w.backends); n != 1 {
					t.Errorf("%d backends are left", n)
				}
			})
		})
	}
}

// TestOneLoginAtThePrimaryConfirmsForAllThatWait gives a lease to the first of two clients only.
func TestOneLoginAtThePrimaryConfirmsForAllThatWait(t *testing.T) {
	r := lookUpRig(t, "session")
	u := r.proven("right")
	first := r.enterProven(1, u)
	id := expect[*ipc.LeaseRequest](r).ID
	second := r.enterProven(2, u)
	expect[*ipc.LeaseRequest](r)
	r.grant(id)
	first.until(t, &pgproto3.ReadyForQuery{})
	first.Close()
	second.until(t, &pgproto3.ReadyForQuery{})
}

func TestAnUnconfirmedClientWaitsForAServerThatDoesNotAnswer(t *testing.T) {
	r := lookUpRig(t, "transaction")
	var server string
	r.do(func() {
		server = r.w.servers.Servers[0].Addresses[0]
		r.w.servers.Servers[0].Addresses = []string{"127.0.0.1:1"}
	})
	tc := r.enterProven(1, r.proven("right"))
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	again := expect[*ipc.LeaseRequest](r)
	r.do(func() { r.w.servers.Servers[0].Addresses = []string{server} })
	if !again.Unproven {
		t.Error("asks as one who is known")
	}
	r.grant(again.ID)
	tc.until(t, &pgproto3.ReadyForQuery{})
}

func TestAClientThatLeavesLeavesItsOwnBackendToOthers(t *testing.T) {
	r := lookUpRig(t, "session")
	r.gate = make(chan struct{})
	u := r.proven("right")
	tc := r.enterProven(1, u)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	pgtest.WaitUntil(t, generous, "the opening", func() (begun bool) {
		r.do(func() { begun = len(r.w.outbounds) == 1 })
		return begun
	})
	tc.Close()
	expect[*ipc.ClientsGone](r)
	close(r.gate)
	expect[*ipc.LeaseOpened](r)
	r.enterProven(2, u).until(t, &pgproto3.ReadyForQuery{}) // there is no other lease
}

func TestALoginWithAPasswordThatWasReplacedMeanwhileFails(t *testing.T) {
	r := newStoredRig(t)
	u := r.learn("alice", hash("alice", "right"))
	replaced := func() (yes bool) { r.do(func() { yes = r.w.replaced(u) }); return yes }
	r.learn("alice", hash("alice", "right"))
	if replaced() {
		t.Error("the same password replaces itself")
	}
	r.learn("alice", "")
	if !replaced() {
		t.Error("a user that was dropped still counts")
	}
	r.learn("alice", hash("alice", "right"))
	if replaced() {
		t.Error("the same password is another")
	}
	r.learn("alice", hash("alice", "another"))
	if !replaced() {
		t.Error("the old password still counts")
	}
}

// TestClientsThatWereLookedUpShareNoLoginWithOthers also has the last client with a login leave, with what was proven.
func TestClientsThatWereLookedUpShareNoLoginWithOthers(t *testing.T) {
	r := lookUpRig(t, "session")
	u := r.proven("right")
	tc := r.enterProven(1, u)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	tc.until(t, &pgproto3.ReadyForQuery{})
	r.do(func() {
		f, session := factsOf(r.pool()), r.w.clients[1].session
		as := func(stored *storedUser) *login {
			return r.w.share(&login{user: "u", database: "d", requested: "d", key: poolD, stored: stored})
		}
		mine := as(u)
		if other := as(nil); other == mine || mine != session.login || mine.stored != u || len(f.logins) != 2 {
			t.Error("a client that was passed through has taken the proof from another")
		}
		r.w.unshare(mine)
		if f.logins[mine.shareKey()] != mine {
			t.Error("the login of a client that is there is forgotten")
		}
		r.w.unshare(mine)
		if f.logins[mine.shareKey()] != nil || len(f.logins) != 1 {
			t.Error("what a client has proven is kept when it has gone")
		}
	})
}
