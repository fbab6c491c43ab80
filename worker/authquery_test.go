package worker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// toldStored is the answer to a login that waits for a stored password.
type toldStored struct {
	u   *storedUser
	err error
}

func newStoredRig(t *testing.T) *rig {
	t.Helper()
	return newRig(t, ipc.ConfigBegin{Pipeline: "session", AuthQuery: ipc.AuthQuery{On: true, MaxAgeMS: time.Hour.Milliseconds(), MaxUsers: 2, MD5: true}})
}

// askStored lets a login ask about a user.
func (r *rig) askStored(user string, limit time.Duration) <-chan toldStored {
	told := make(chan toldStored, 1)
	r.do(func() {
		r.w.askStored(storedOf{user: user}, limit, func(u *storedUser, err error) { told <- toldStored{u, err} })
	})
	return told
}

// hash is what a server stores of a password, in the form that takes no derivation.
func hash(user, password string) ipc.Secret {
	return ipc.Secret("md5" + auth.MD5Secret(user, password))
}

// learn has the servers answer about a user, and returns what is known then.
func (r *rig) learn(user string, stored ipc.Secret) *storedUser {
	r.t.Helper()
	told := r.askStored(user, generous)
	r.send(&ipc.StoredAnswer{ID: expect[*ipc.StoredRequest](r).ID, Stored: stored})
	got := wait(r.t, told, "an answer")
	if got.err != nil {
		r.t.Fatal(got.err)
	}
	return got.u
}

func (r *rig) knows(user string) (u *storedUser) {
	r.do(func() { u = r.w.knownStored(storedOf{user: user}) })
	return u
}

func TestLoginsShareOneRequestForAStoredPassword(t *testing.T) {
	r := newStoredRig(t)
	first := r.askStored("alice", generous)
	m := expect[*ipc.StoredRequest](r)
	if m.User != "alice" || m.Database != "" || m.TimeoutMS != generous.Milliseconds() {
		t.Errorf("the request is %+v", m)
	}
	second := r.askStored("alice", generous)
	r.send(&ipc.StoredAnswer{ID: m.ID, Stored: hash("alice", "right")})
	a, b := wait(t, first, "the first answer"), wait(t, second, "the second answer")
	if a.err != nil || b.err != nil || a.u != b.u || !a.u.exists || r.knows("alice") != a.u {
		t.Errorf("%v, %v", a.err, b.err)
	}
	r.do(func() {
		if len(r.w.stored.asked) != 0 || len(r.w.stored.asking) != 0 {
			t.Error("answered requests are kept")
		}
	})
}

// TestALoginDoesNotWaitForeverForAStoredPassword also has the answer come later, and one to nobody's question.
func TestALoginDoesNotWaitForeverForAStoredPassword(t *testing.T) {
	r := newStoredRig(t)
	told := r.askStored("alice", 500*time.Millisecond)
	m := expect[*ipc.StoredRequest](r)
	if got := wait(t, told, "an error"); !errors.Is(got.err, errStoredLate) {
		t.Errorf("%v", got.err)
	}
	r.send(&ipc.StoredAnswer{ID: m.ID, Stored: hash("alice", "right")})
	r.send(&ipc.StoredAnswer{ID: m.ID + 1, Stored: hash("bob", "right")})
	if got := wait(t, r.askStored("bob", 0), "an error"); !errors.Is(got.err, errStoredLate) {
		t.Errorf("without time: %v", got.err)
	}
	r.learn("carol", "") // after the other answers
	if r.knows("alice") == nil || r.knows("bob") != nil {
		t.Error("a late answer is lost, or one that was never asked for counts")
	}
}

func TestWhatIsNoStoredPasswordIsAnError(t *testing.T) {
	r := newStoredRig(t)
	for _, m := range []ipc.StoredAnswer{{Stored: "the password itself"}, {Error: "no server"}} {
		told := r.askStored("alice", generous)
		m.ID = expect[*ipc.StoredRequest](r).ID
		r.send(&m)
		if got := wait(t, told, "an error"); got.err == nil || r.knows("alice") != nil {
			t.Errorf("%+v: %v", m.Error, got.err)
		}
	}
}

func TestOpenRequestsOfLoginsAreBounded(t *testing.T) {
	r := newStoredRig(t)
	r.learn("alice", hash("alice", "right"))
	for i := range ipc.MaxStoredRequests - keptForKnown {
		r.askStored(fmt.Sprint("u", i), generous)
		if expect[*ipc.StoredRequest](r).Known {
			t.Fatal("a made-up name is known")
		}
	}
	if got := wait(t, r.askStored("one more", generous), "an error"); !errors.Is(got.err, errManyStored) {
		t.Errorf("%v", got.err)
	}
	r.askStored("u0", generous) // joins
	r.askStored("alice", generous)
	if m := expect[*ipc.StoredRequest](r); m.User != "alice" || !m.Known {
		t.Errorf("%+v instead of a request for the user", m)
	}
}

// TestAFloodOfMadeUpNamesLeavesRoomForUsers has room for two users of either kind.
func TestAFloodOfMadeUpNamesLeavesRoomForUsers(t *testing.T) {
	r := newStoredRig(t)
	r.learn("alice", hash("alice", "right"))
	for i := range 5 {
		r.learn(fmt.Sprint("nobody", i), "")
	}
	if r.knows("alice") == nil || r.knows("nobody4") == nil || r.knows("nobody2") != nil {
		t.Error("a user is forgotten, or too many strangers are kept")
	}
	r.learn("bob", hash("bob", "right"))
	r.knows("alice") // is used, so bob goes
	r.learn("carol", hash("carol", "right"))
	if r.knows("alice") == nil || r.knows("bob") != nil || r.knows("carol") == nil {
		t.Error("the wrong user is forgotten")
	}
	r.do(func() {
		x := r.w.stored
		if len(x.existing.users) != 2 || x.existing.recent.Len() != 2 || len(x.missing.users) != 2 || x.missing.recent.Len() != 2 {
			t.Error("more users are kept than may be")
		}
	})
}

func TestAProofGoesWithTheStoredPassword(t *testing.T) {
	r := newStoredRig(t)
	u := r.learn("alice", hash("alice", "right"))
	l := &login{user: "alice", stored: u}
	proof := u.stored.Check("alice", "right")
	proofOf := func() (p *auth.Proof) { r.do(func() { p, _ = r.w.proofOf(l) }); return p }
	r.do(func() { u.proof, u.confirmed = proof, true })
	if again := r.learn("alice", hash("alice", "right")); again != u || proofOf() != proof {
		t.Error("the proof is forgotten though the password is the same")
	}
	changed := r.learn("alice", hash("alice", "another"))
	if p := proofOf(); p == nil || *p != (auth.Proof{}) || changed == u || u.proof != nil {
		t.Error("the proof outlives its password")
	}
	r.do(func() { changed.proof = changed.stored.Check("alice", "another") })
	if proofOf() != changed.proof {
		t.Error("an older login doesn't take the latest proof")
	}
	l.stored = changed
	r.learn("bob", hash("bob", "right"))
	r.learn("carol", hash("carol", "right"))
	if proofOf() != changed.proof { // of a user that was pushed out; its sessions still need it
		t.Error("a session has lost its proof")
	}
	r.do(func() {
		for _, l := range []*login{nil, {user: "known"}} {
			if p, _ := r.w.proofOf(l); p != nil {
				t.Error("a user with an entry has a proof")
			}
		}
	})
}

func TestAnswersAreDoubtedAfterALoginFails(t *testing.T) {
	r := newStoredRig(t)
	u := r.learn("alice", hash("alice", "right"))
	r.do(func() { r.w.doubt(u) })
	if r.knows("alice") == nil {
		t.Error("a wrong password makes the servers be asked again at once")
	}
	r.do(func() { u.at = u.at.Add(-doubtAfter); r.w.doubt(u) })
	if r.knows("alice") != nil {
		t.Error("an answer isn't doubted after a wrong password")
	}
	l := &login{user: "alice", stored: u}
	for err, doubted := range map[error]bool{
		errors.New("reset"): false,
		&auth.ServerError{Fields: pgwire.ErrorFields{Code: pgwire.CodeCannotConnectNow}}: false,
		&auth.ServerError{Fields: pgwire.ErrorFields{Code: pgwire.CodeInvalidPassword}}:  true,
		fmt.Errorf("log in: %w", auth.ErrStale):                                          true,
	} {
		r.do(func() { u.at = r.w.loop.Now(); r.w.disprove(l, err); r.w.disprove(nil, err) })
		if got := r.knows("alice") == nil; got != doubted {
			t.Errorf("%v: doubted %v", err, got)
		}
	}
	r.do(func() { u.at = r.w.loop.Now(); r.w.stored.reconfigured(true) })
	if r.knows("alice") != nil {
		t.Error("an answer outlives its configuration")
	}
	r.do(func() { u.at = r.w.loop.Now().Add(-2 * time.Hour) })
	if r.knows("alice") != nil {
		t.Error("an answer counts for longer than auth_query_max_age")
	}
}

func TestRulesAskEverybodyForAProof(t *testing.T) {
	for m, want := range map[auth.Method]auth.Method{
		auth.Trust: auth.MD5, auth.Cert: auth.MD5, auth.All: auth.MD5, auth.MD5: auth.MD5, auth.Password: auth.Password, auth.SCRAM: auth.SCRAM,
	} {
		if got := storedMethod(m); got != want {
			t.Errorf("%s: %s", m, got)
		}
	}
}

// TestStrangersLookLikeTheLastUser also has the roles of the cluster get another look while a name is tried.
func TestStrangersLookLikeTheLastUser(t *testing.T) {
	r := newStoredRig(t)
	if u := r.learn("early", ""); u.look != (auth.Look{}) {
		t.Errorf("without a user a stranger is %+v", u.look)
	}
	known := r.learn("alice", hash("alice", "right"))
	if u := r.learn("nobody", ""); u.look != known.stored.Look(auth.Look{}) {
		t.Errorf("beside a user with an MD5 hash a stranger is %+v", u.look)
	}
	if u := r.learn("early", ""); u.look != (auth.Look{}) {
		t.Error("the look of a name has changed")
	}
}
