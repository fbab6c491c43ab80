package supervisor

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// askedFor is a worker's request for what answers the first server.
func askedFor(user string, method ipc.LoginMethod) *ipc.SecretRequest {
	m := &ipc.SecretRequest{ID: 1, User: user, Database: "d", Question: ipc.Question{Method: method}}
	if method == ipc.LoginSCRAM {
		m.Question.Salt, m.Question.Iterations = "0123456789abcdef", 4096
	}
	return m
}

// secretWorld has a user with a password, and another that is the superuser.
func secretWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 2, func(c *config.Config) {
		c.Users = []config.Credential{{Name: "u", Password: "p"}}
		c.Superuser = &config.Credential{Name: "s", Password: "q"}
	})
	w.up()
	return w
}

// told returns the answer to a worker's request.
func (w *world) told(f *fakeChild, m *ipc.SecretRequest) *ipc.SecretAnswer {
	w.t.Helper()
	before := len(messagesOf[*ipc.SecretAnswer](f))
	f.message(m)
	w.settle()
	all := messagesOf[*ipc.SecretAnswer](f)
	if len(all) != before+1 || all[before].ID != m.ID {
		w.t.Fatalf("%d answers to request %d", len(all)-before, m.ID)
	}
	return all[before]
}

func TestWorkerGetsWhatTheServersQuestionNeedsAndNoMore(t *testing.T) {
	scram := askedFor("u", ipc.LoginSCRAM)
	keys, err := auth.DeriveKeys("p", auth.Factors{Salt: scram.Question.Salt, Iterations: scram.Question.Iterations})
	if err != nil {
		t.Fatal(err)
	}
	for want, tc := range map[string]struct {
		m     *ipc.SecretRequest
		asked int // of two times
	}{
		string(keys.Encode()):    {scram, 1},
		auth.MD5Secret("u", "p"): {askedFor("u", ipc.LoginMD5), 2},
		"p":                      {askedFor("u", ipc.LoginPassword), 2},
	} {
		w, m := secretWorld(t), tc.m
		w.question = m.Question
		for range 2 {
			if got := w.told(w.children[0], m); got.Error != "" || got.Secret.Reveal() != want {
				t.Errorf("%s: a secret of %d bytes, error %q", m.Question.Method, len(got.Secret), got.Error)
			}
		}
		if n := len(sentTo[*ipc.QuestionRequest](w.prober)); n != tc.asked {
			t.Errorf("%s: the server was asked %d times, not %d", m.Question.Method, n, tc.asked)
		}
	}
}

// A server may get a better method. What it asked before isn't answered any more.
func TestAWeakQuestionIsAnsweredOnlyWhileTheServerAsksIt(t *testing.T) {
	few := askedFor("u", ipc.LoginSCRAM)
	few.Question.Iterations = 4095
	for name, m := range map[string]*ipc.SecretRequest{
		"password": askedFor("u", ipc.LoginPassword), "md5": askedFor("u", ipc.LoginMD5), "few iterations": few,
	} {
		w := secretWorld(t)
		w.question = m.Question
		if got := w.told(w.children[0], m); got.Secret == "" {
			t.Fatalf("%s: %s", name, got.Error)
		}
		w.question = askedFor("u", ipc.LoginSCRAM).Question
		if got := w.told(w.children[1], m); got.Secret != "" || got.Error == "" {
			t.Errorf("%s: a secret of %d bytes after the server has moved to SCRAM, error %q", name, len(got.Secret), got.Error)
		}
	}
}

// A worker that lies about a server's question learns nothing.
func TestWorkerGetsNoSecretForAQuestionThatTheServerDoesntAsk(t *testing.T) {
	scram := askedFor("u", ipc.LoginSCRAM).Question
	other := scram
	other.Salt = "another salt...."
	fewer := scram
	fewer.Iterations = 1
	for name, tc := range map[string]struct {
		user  string
		claim ipc.Question
		fails error
		says  string
	}{
		"md5 of a SCRAM server":      {"u", ipc.Question{Method: ipc.LoginMD5}, nil, "the server asks the prober for scram-sha-256"},
		"password of a SCRAM server": {"u", ipc.Question{Method: ipc.LoginPassword}, nil, "the server asks the prober for scram-sha-256"},
		"another salt":               {"u", other, nil, "another salt"},
		"fewer iterations":           {"u", fewer, nil, "another salt"},
		"nobody":                     {"x", scram, nil, "no password"},
		"the superuser":              {"s", scram, nil, "no password"},
		"a prober that fails":        {"u", scram, errors.New("it broke"), "it broke"},
	} {
		w := secretWorld(t)
		w.question, w.questionErr = scram, tc.fails
		got := w.told(w.children[0], &ipc.SecretRequest{ID: 1, User: tc.user, Database: "d", Question: tc.claim})
		if got.Secret != "" || !strings.Contains(got.Error, tc.says) {
			t.Errorf("%s: a secret of %d bytes, error %q", name, len(got.Secret), got.Error)
		}
	}
}

func TestOpenRequestsForSecretsAreBounded(t *testing.T) {
	w := secretWorld(t)
	w.prober.mute = true
	for i := range ipc.MaxSecretRequests + 1 {
		if w.children[0].killed {
			t.Fatalf("killed after %d requests", i)
		}
		m := askedFor("u", ipc.LoginMD5)
		m.ID = uint64(i + 1)
		w.children[0].message(m)
		w.settle()
	}
	if !w.children[0].killed {
		t.Errorf("%d open requests are allowed", ipc.MaxSecretRequests+1)
	}
}

func TestWorkerThatDiesMeanwhileIsToldNothing(t *testing.T) {
	w := secretWorld(t)
	dead := w.children[0]
	w.question = askedFor("u", ipc.LoginMD5).Question
	w.prober.mute = true
	dead.message(askedFor("u", ipc.LoginMD5))
	w.settle()
	w.die(dead)
	asked := sentTo[*ipc.QuestionRequest](w.prober)
	w.prober.message(&ipc.QuestionDone{ID: asked[0].ID, Question: w.question})
	w.settle()
	for _, f := range w.children {
		if n := len(messagesOf[*ipc.SecretAnswer](f)); n != 0 {
			t.Errorf("%d answers to a request of a dead worker", n)
		}
	}
}

// A worker that was taken over can't fill the prober, which failover needs.
func TestFewQuestionsOfAWorkerAreAskedAtATime(t *testing.T) {
	w := secretWorld(t)
	f := w.children[0]
	w.prober.mute = true
	asked := func() int { return len(sentTo[*ipc.QuestionRequest](w.prober)) }
	const all = 5
	for i := range all {
		m := askedFor("u", ipc.LoginSCRAM)
		m.ID, m.Question.Salt = uint64(i+1), strings.Repeat("s", i+1)
		f.message(m)
		w.settle()
	}
	for i := range all {
		if got, want := asked(), min(i+maxAsking, all); got != want {
			t.Fatalf("%d questions are asked after %d answers, not %d", got, i, want)
		}
		w.prober.message(&ipc.QuestionDone{ID: sentTo[*ipc.QuestionRequest](w.prober)[i].ID, Error: "no"})
		w.settle()
	}
	if n := len(messagesOf[*ipc.SecretAnswer](f)); n != all {
		t.Errorf("%d of %d requests are answered", n, all)
	}
}

// What has waited behind the same question needs no question of its own.
func TestAQuestionThatWasAnsweredMeanwhileIsNotAsked(t *testing.T) {
	w := secretWorld(t)
	w.prober.mute = true
	w.question = askedFor("u", ipc.LoginSCRAM).Question
	asked := w.askedFiveTimes(w.children[0])
	for _, q := range asked {
		w.prober.message(&ipc.QuestionDone{ID: q.ID, Question: w.question})
		w.settle()
	}
	if n := len(sentTo[*ipc.QuestionRequest](w.prober)); n != len(asked) {
		t.Errorf("%d more questions are asked", n-len(asked))
	}
	answers := messagesOf[*ipc.SecretAnswer](w.children[0])
	for _, a := range answers {
		if a.Secret == "" {
			t.Errorf("request %d has no secret: %q", a.ID, a.Error)
		}
	}
	if len(answers) != 5 {
		t.Errorf("%d answers, not 5", len(answers))
	}
}

func TestNoQuestionIsAskedForADeadWorker(t *testing.T) {
	w := secretWorld(t)
	w.prober.mute = true
	asked := w.askedFiveTimes(w.children[0])
	w.die(w.children[0])
	for _, q := range asked {
		w.prober.message(&ipc.QuestionDone{ID: q.ID, Error: "no"})
		w.settle()
	}
	if n := len(sentTo[*ipc.QuestionRequest](w.prober)); n != len(asked) {
		t.Errorf("%d questions are asked for a dead worker", n-len(asked))
	}
}

// askedFiveTimes has a worker ask the same five times, and returns what the prober is asked so far.
func (w *world) askedFiveTimes(f *fakeChild) []*ipc.QuestionRequest {
	w.t.Helper()
	for i := range 5 {
		m := askedFor("u", ipc.LoginSCRAM)
		m.ID = uint64(i + 1)
		f.message(m)
		w.settle()
	}
	asked := sentTo[*ipc.QuestionRequest](w.prober)
	if len(asked) != maxAsking {
		w.t.Fatalf("%d questions are asked, not %d", len(asked), maxAsking)
	}
	return asked
}

func TestTheProberIsAskedWithoutAPassword(t *testing.T) {
	w := secretWorld(t)
	w.question = askedFor("u", ipc.LoginSCRAM).Question
	if got := w.told(w.children[0], askedFor("u", ipc.LoginSCRAM)); got.Secret == "" {
		t.Fatal(got.Error)
	}
	for _, q := range sentTo[*ipc.QuestionRequest](w.prober) {
		if len(q.Target.Logins) != 1 || q.Target.Logins[0] != (ipc.Login{User: "u", Database: "d"}) {
			t.Errorf("%d logins, the first as %s with a password of %d bytes", len(q.Target.Logins), q.Target.Logins[0].User, len(q.Target.Logins[0].Password))
		}
	}
}

func TestAServerThatAsksForAWeakProofIsWarnedOf(t *testing.T) {
	few, enough := askedFor("u", ipc.LoginSCRAM), askedFor("u", ipc.LoginSCRAM)
	few.Question.Iterations = 4095
	for text, m := range map[string]*ipc.SecretRequest{
		"a server asks for passwords in clear text": askedFor("u", ipc.LoginPassword),
		"a server asks for md5":                     askedFor("u", ipc.LoginMD5),
		"a server asks for few iterations of SCRAM": few,
		"": enough,
	} {
		w := secretWorld(t)
		var log strings.Builder
		w.s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		w.question = m.Question
		for _, database := range []string{"d", "e"} {
			m.Database = database
			if got := w.told(w.children[0], m); got.Secret == "" {
				t.Fatalf("%s: %s", m.Question.Method, got.Error)
			}
		}
		want := min(len(text), 1)
		if n := strings.Count(log.String(), "\n"); n != want || !strings.Contains(log.String(), text) {
			t.Errorf("%s: logged %q, want %d lines with %q", m.Question.Method, log.String(), want, text)
		}
	}
}

// A server that makes up a salt for each login can't show the prober what it has shown the worker.
func TestAServerWithANewSaltForEachLoginIsSeenTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		newSalts   bool
		iterations int
		asked      int
		given      bool
	}{
		"new salts":                          {true, 4096, 2, true},
		"new salts, and the worker has lied": {true, 1, 1, false},
		"one salt":                           {false, 4096, 2, false},
	} {
		w := secretWorld(t)
		m := askedFor("u", ipc.LoginSCRAM)
		w.question, w.newSalts = m.Question, tc.newSalts
		m.Question.Salt, m.Question.Iterations = "the worker's", tc.iterations
		for i := range 2 { // it isn't remembered
			got := w.told(w.children[0], m)
			if given := got.Secret != ""; given != tc.given || given == (got.Error != "") {
				t.Errorf("%s: a secret of %d bytes, error %q", name, len(got.Secret), got.Error)
			}
			if n := len(sentTo[*ipc.QuestionRequest](w.prober)); n != (i+1)*tc.asked {
				t.Errorf("%s: the server is asked %d times in round %d", name, n, i)
			}
		}
	}
}

func TestServerGetsNoAnswerThatRequireAuthForbids(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Users = []config.Credential{{Name: "u", Password: "p"}}
		c.Servers[0].RequireAuth = "!password, !md5"
	})
	w.up()
	for method, want := range map[ipc.LoginMethod]string{
		ipc.LoginPassword: "server one: server asks for password, and require_auth allows only scram-sha-256, none",
		ipc.LoginMD5:      "server one: server asks for md5, and require_auth allows only scram-sha-256, none",
		ipc.LoginSCRAM:    "",
	} {
		m := askedFor("u", method)
		w.question = m.Question
		got := w.told(w.children[0], m)
		if got.Error != want || (got.Secret == "") != (want != "") {
			t.Errorf("%s: error %q", method, got.Error)
		}
	}
	asked := sentTo[*ipc.QuestionRequest](w.prober)
	if len(asked) == 0 || strings.Join(asked[0].Target.Methods, " ") != "scram-sha-256 none" {
		t.Errorf("the prober was asked %+v", asked)
	}
}
