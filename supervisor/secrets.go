package supervisor

import (
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Workers hold no passwords for servers. A worker that is taken over could otherwise take
// all of them along, and try them elsewhere. It gets what a server's question needs, for
// that question only, and the supervisor first has the prober see that the server really
// asks it: a worker can't invent one whose answer would tell more.

const (
	// maxShown is how many questions are remembered.
	maxShown = 4096
	// maxAsking is how many questions of one worker the prober asks at a time. Without
	// this bound a worker that was taken over could fill the prober with questions to a
	// server that hangs, and failover's own probes would have to wait for them.
	maxAsking = 2
	// maxDeriving is how many derivations of keys run at a time, each in a goroutine.
	maxDeriving = 2
	// fewIterations is less than PostgreSQL's own default.
	fewIterations = auth.DefaultIterations
)

// secrets are the requests of workers for what answers a server's question.
type secrets struct {
	shown map[shown]bool // the harmless questions that servers have asked the prober
	keys  *auth.ClientKeys
	// deriving are the derivations of all workers.
	deriving line
	warned   map[warnedOf]bool
}

// line is work of which only some may be under way at a time; the oldest starts first. The
// requests of workers fill it, of which a worker has ipc.MaxSecretRequests at most.
type line struct {
	underWay int
	waiting  []func()
}

// join adds work. do calls leave when the work has ended: before it returns, or later with
// advance after it.
func (l *line) join(most int, do func()) {
	l.waiting = append(l.waiting, do)
	l.advance(most)
}

func (l *line) leave() { l.underWay-- }

// advance starts work while fewer than most are under way.
func (l *line) advance(most int) {
	for l.underWay < most && len(l.waiting) > 0 {
		do := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.underWay++
		do()
	}
}

// shown is a question that a server has asked a user. Only a question that asks for SCRAM
// keys of enough iterations is remembered. The keys for a salt are the same on all servers
// of a cluster, whatever the database, and are worth nothing where the salt is another. The
// answer to a weak question is worth more than the login, so the prober has to see the
// question each time: the server may have got a better method meanwhile.
type shown struct {
	user     string
	question ipc.Question
}

// warnedOf is what the log has said of a server.
type warnedOf struct {
	server int
	method ipc.LoginMethod
}

// weak reports whether the answer to a question tells more than is needed to log in where
// it is asked.
func weak(q ipc.Question) bool {
	return q.Method != ipc.LoginSCRAM || q.Iterations < fewIterations
}

// seenBefore reports whether a worker's question needs no look of the prober.
func (x *secrets) seenBefore(m *ipc.SecretRequest) bool {
	return x.shown[shown{m.User, m.Question}]
}

// claimOfSecret checks a SecretRequest.
func (s *supervisor) claimOfSecret(c *child, m *ipc.SecretRequest) string {
	q := m.Question
	switch {
	case c.secrets >= ipc.MaxSecretRequests:
		return "it asks for more secrets than a worker may at a time"
	case m.Server < 0 || m.Server >= len(s.cfg.Servers):
		return "it asks for the secret of a server that there isn't"
	case len(m.User)+len(m.Database) > ipc.MaxKey:
		return "it asks for the secret of a name that is too long"
	case q.Method != ipc.LoginPassword && q.Method != ipc.LoginMD5 && q.Method != ipc.LoginSCRAM, len(q.Salt) > ipc.MaxLoginSalt:
		return "it asks for the secret of a question that no server asks"
	}
	return ""
}

func (s *supervisor) onSecretRequest(c *child, m *ipc.SecretRequest) {
	if wrong := s.claimOfSecret(c, m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	c.secrets++
	switch {
	case s.serverPassword(m.User) == "":
		s.answerSecret(c, m, "", fmt.Errorf("no password of user %q is known", m.User))
	case s.service.secrets.seenBefore(m):
		s.giveSecret(c, m)
	default:
		c.asking.join(maxAsking, func() { s.askServer(c, m) })
	}
}

// serverPassword returns a user's password for the servers, empty if there is none. The
// superuser's is for pgagroal alone.
func (s *supervisor) serverPassword(user string) string {
	for _, u := range s.cfg.Users {
		if u.Name == user {
			return u.Password.Reveal()
		}
	}
	return ""
}

// askServer has the prober see whether a server asks what a worker says.
func (s *supervisor) askServer(c *child, m *ipc.SecretRequest) {
	switch {
	case c.ending():
	case s.service.secrets.seenBefore(m): // meanwhile, to somebody else
		s.giveSecret(c, m)
	case len(s.addressesOf(m.Server)) == 0:
		s.answerSecret(c, m, "", fmt.Errorf("server %s has no address", s.cfg.Servers[m.Server].Name))
	default:
		s.askQuestion(c, m, "")
		return
	}
	c.asking.leave()
}

// askQuestion has the prober ask, and asks a second time if only the salt differs. saw is
// the salt of the first time, empty the first time.
func (s *supervisor) askQuestion(c *child, m *ipc.SecretRequest, saw string) {
	lookAround(s, m.Server, s.cfg.FailoverProbeTimeout,
		func(id uint64, t ipc.Target) ipc.Message {
			t.Logins = []ipc.Login{{User: m.User, Database: m.Database}}
			return &ipc.QuestionRequest{ID: id, Target: t}
		},
		func(seen *ipc.QuestionDone) string { return seen.Error },
		func(seen *ipc.QuestionDone, err error) {
			if err == nil && saw == "" && onlyAnotherSalt(seen.Question, m.Question) {
				s.askQuestion(c, m, seen.Question.Salt)
				return
			}
			c.asking.leave()
			s.onQuestion(c, m, seen, err, saw)
			c.asking.advance(maxAsking)
		})
}

// onlyAnotherSalt reports whether two questions differ in their salt alone.
func onlyAnotherSalt(a, b ipc.Question) bool {
	different := a.Salt != "" && a.Salt != b.Salt
	a.Salt = b.Salt
	return different && a == b
}

func (s *supervisor) onQuestion(c *child, m *ipc.SecretRequest, seen *ipc.QuestionDone, err error, saw string) {
	switch {
	case err != nil:
		err = fmt.Errorf("see what the server asks for: %w", err)
	case seen.Question == m.Question:
		s.noteShown(m)
		s.giveSecret(c, m)
		return
	case saw != "" && saw != seen.Question.Salt && onlyAnotherSalt(seen.Question, m.Question):
		// A pooler that knows the password may make up a salt for each login. PostgreSQL
		// doesn't.
		s.giveSecret(c, m)
		return
	default:
		err = fmt.Errorf("the server asks the prober for %s, and the worker for %s or with another salt", seen.Question.Method, m.Question.Method)
	}
	s.answerSecret(c, m, "", err)
}

// noteShown remembers a question, or warns of a weak one.
func (s *supervisor) noteShown(m *ipc.SecretRequest) {
	x := &s.service.secrets
	if weak(m.Question) {
		s.warnOfWeak(m)
		return
	}
	if x.shown == nil || len(x.shown) >= maxShown {
		x.shown = map[shown]bool{}
	}
	x.shown[shown{m.User, m.Question}] = true
}

// warnOfWeak warns once of each server and method that makes workers hold more than keys.
func (s *supervisor) warnOfWeak(m *ipc.SecretRequest) {
	x, q, of := &s.service.secrets, m.Question, warnedOf{m.Server, m.Question.Method}
	if x.warned[of] {
		return
	}
	if x.warned == nil {
		x.warned = map[warnedOf]bool{}
	}
	x.warned[of] = true
	server := s.cfg.Servers[m.Server].Name
	switch q.Method {
	case ipc.LoginPassword:
		s.log.Warn("a server asks for passwords in clear text, so workers get to know them; use scram-sha-256 in its pg_hba.conf", "server", server, "user", m.User)
	case ipc.LoginMD5:
		s.log.Warn("a server asks for md5, so workers get to know hashes of passwords that are easily broken; use scram-sha-256 in its pg_hba.conf", "server", server, "user", m.User)
	default:
		s.log.Warn("a server asks for few iterations of SCRAM, so keys are easily broken", "server", server, "user", m.User, "iterations", q.Iterations)
	}
}

// giveSecret answers a request whose question the server has shown.
func (s *supervisor) giveSecret(c *child, m *ipc.SecretRequest) {
	password := s.serverPassword(m.User)
	switch m.Question.Method {
	case ipc.LoginPassword:
		s.answerSecret(c, m, password, nil)
	case ipc.LoginMD5:
		s.answerSecret(c, m, auth.MD5Secret(m.User, password), nil)
	default:
		s.service.secrets.deriving.join(maxDeriving, func() { s.derive(c, m, password) })
	}
}

func (s *supervisor) derive(c *child, m *ipc.SecretRequest, password string) {
	x := &s.service.secrets
	if x.keys == nil {
		x.keys = auth.NewClientKeys(maxShown)
	}
	f := auth.Factors{Salt: m.Question.Salt, Iterations: m.Question.Iterations}
	elsewhere(s, func() (auth.Keys, error) { return x.keys.Derive(m.User, password, f) }, func(keys auth.Keys, err error) {
		x.deriving.leave()
		s.answerSecret(c, m, string(keys.Encode()), err)
		x.deriving.advance(maxDeriving)
	})
}

// answerSecret answers a request, with either a secret or an error.
func (s *supervisor) answerSecret(c *child, m *ipc.SecretRequest, secret string, err error) {
	c.secrets--
	if c.ending() {
		return
	}
	answer := &ipc.SecretAnswer{ID: m.ID, Secret: ipc.Secret(secret)}
	if err != nil {
		answer.Secret, answer.Error = "", err.Error()
	}
	s.send(c, answer)
}
