package supervisor

import (
	"errors"
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Workers hold no passwords for servers: whoever took over a worker would have all of
// them, and could try them elsewhere. A worker gets only the secret that answers one
// question of a server. The supervisor first has the prober check that the server really
// asks this question, so that a worker can't invent a question whose answer reveals more.

const (
	// maxShown is how many questions are remembered.
	maxShown = 4096
	// maxAsking is how many questions of one worker the prober asks at a time. Without
	// this bound a worker that was taken over could fill the prober with questions to a
	// server that hangs, and failover's own probes would have to wait for them.
	maxAsking = 2
	// maxDeriving is how many derivations of keys run at a time, each in a goroutine.
	maxDeriving = 2
	// minIterations is PostgreSQL's default for SCRAM. A server that asks for fewer makes
	// keys that are easily broken, which is worth a warning.
	minIterations = auth.DefaultIterations
)

// secrets is what the supervisor keeps to answer the SecretRequests of workers.
type secrets struct {
	shown map[shown]bool // the harmless questions that servers have asked the prober
	keys  *auth.ClientKeys
	// deriving are the derivations of all workers.
	deriving line
	warned   map[warnedOf]bool
}

// line is a queue of work of which only a few pieces may be under way at a time; the
// oldest starts first. Each piece is a SecretRequest, of which a worker has
// ipc.MaxSecretRequests at most.
type line struct {
	underWay int
	first    []func() // goes before waiting
	waiting  []func()
}

// join adds a piece of work, do. When the work has ended, do calls leave. If that is after
// do has returned, it calls advance as well.
func (l *line) join(most int, do func()) {
	l.waiting = append(l.waiting, do)
	l.advance(most)
}

// joinFirst is join for work that goes before that of join.
func (l *line) joinFirst(most int, do func()) {
	l.first = append(l.first, do)
	l.advance(most)
}

func (l *line) leave() { l.underWay-- }

// advance starts work while fewer than most are under way.
func (l *line) advance(most int) {
	for l.underWay < most && len(l.first)+len(l.waiting) > 0 {
		from := &l.waiting
		if len(l.first) > 0 {
			from = &l.first
		}
		do := (*from)[0]
		*from = (*from)[1:]
		l.underWay++
		do()
	}
}

// shown is a question that a server has asked for a user. Only strong questions are
// remembered: SCRAM with enough iterations. The keys for a salt are the same on all servers
// of a cluster, whatever the database, and useless where the salt differs. The answer to a
// weak question is worth more than one login, so the prober checks such a question each
// time: the server may ask for a better method by now.
type shown struct {
	user     string
	question ipc.Question
}

// warnedOf is a weak method of a server that the log has warned of.
type warnedOf struct {
	server int
	method ipc.LoginMethod
}

// weak reports whether the answer to a question is worth more than a login at the server
// that asks.
func weak(q ipc.Question) bool {
	return q.Method != ipc.LoginSCRAM || q.Iterations < minIterations
}

// seenBefore reports whether the prober has seen a worker's question already.
func (x *secrets) seenBefore(m *ipc.SecretRequest) bool {
	return x.shown[shown{m.User, m.Question}]
}

// claimOfSecret checks a SecretRequest.
func (s *supervisor) claimOfSecret(c *child, m *ipc.SecretRequest) string {
	q := m.Question
	switch {
	case c.secrets >= ipc.MaxSecretRequests:
		return "it asks for more secrets than a worker may at a time"
	case !s.isSlot(m.Server):
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

// serverPassword returns a user's password for the servers, empty if there is none. It
// ignores the superuser's password, which is for pgagroal alone.
func (s *supervisor) serverPassword(user string) string {
	for _, u := range s.cfg.Users {
		if u.Name == user {
			return u.Password.Reveal()
		}
	}
	return ""
}

// askServer has the prober check that a server asks what the worker says.
func (s *supervisor) askServer(c *child, m *ipc.SecretRequest) {
	switch {
	case c.ending():
	case s.service.secrets.seenBefore(m): // another request has shown it meanwhile
		s.giveSecret(c, m)
	case len(s.addressesOf(m.Server)) == 0:
		s.answerSecret(c, m, "", fmt.Errorf("server %s has no address", s.serverName(m.Server)))
	default:
		s.askQuestion(c, m, "")
		return
	}
	c.asking.leave()
}

// askQuestion has the prober ask, and asks a second time if only the salt differs. saw is
// the salt that the first time has shown, empty for the first time.
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

// warnOfWeak warns of a weak question, once for each server and method.
func (s *supervisor) warnOfWeak(m *ipc.SecretRequest) {
	x, q, of := &s.service.secrets, m.Question, warnedOf{m.Server, m.Question.Method}
	if x.warned[of] {
		return
	}
	if x.warned == nil {
		x.warned = map[warnedOf]bool{}
	}
	x.warned[of] = true
	server := s.serverName(m.Server)
	switch q.Method {
	case ipc.LoginPassword:
		s.log.Warn("a server asks for passwords in clear text, so workers get to know them; use scram-sha-256 in its pg_hba.conf", "server", server, "user", m.User)
	case ipc.LoginMD5:
		s.log.Warn("a server asks for md5, so workers get to know hashes of passwords that are easily broken; use scram-sha-256 in its pg_hba.conf", "server", server, "user", m.User)
	default:
		s.log.Warn("a server asks for few iterations of SCRAM, so keys are easily broken", "server", server, "user", m.User, "iterations", q.Iterations)
	}
}

// allowed returns an error if require_auth doesn't let the server ask this question. Workers don't ask then, unless they
// were taken over, or a reload has just forbidden it.
func (s *supervisor) allowed(m *ipc.SecretRequest) error {
	sv := s.cfg.Slot(m.Server)
	if sv == nil {
		return errors.New("the server is not configured any more")
	}
	if err := auth.NewMethods(sv.AuthMethods()).Check(auth.Method(m.Question.Method.String())); err != nil {
		return fmt.Errorf("server %s: %w", sv.Name, err)
	}
	return nil
}

// giveSecret answers a request whose question the server has shown.
func (s *supervisor) giveSecret(c *child, m *ipc.SecretRequest) {
	password := s.serverPassword(m.User)
	if err := s.allowed(m); err != nil {
		s.answerSecret(c, m, "", err)
		return
	}
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
	cache := x.keys // a reload makes a new one
	elsewhere(s, func() (auth.Keys, error) { return cache.Derive(m.User, password, f) }, func(keys auth.Keys, err error) {
		x.deriving.leave()
		if err == nil && s.serverPassword(m.User) != password {
			err = errors.New("the password has changed meanwhile")
		}
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
