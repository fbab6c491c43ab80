package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A worker has no passwords for servers. To open a backend it asks the supervisor for the
// secret that answers the server's question, once for each user and question.

// maxSecrets is how many secrets a worker keeps.
const maxSecrets = 4096

var (
	errManySecrets = errors.New("too many logins wait for keys")
	errBadKeys     = errors.New("keys of the wrong length")
)

// secretError says that there is no answer to a server's question. The reason is neither the
// user's password nor the server, so another attempt may succeed.
type secretError struct{ err error }

func (e *secretError) Error() string { return "no answer to the server's question: " + e.err.Error() }
func (e *secretError) Unwrap() error { return e.err }

// secretKey is what a secret depends on. SCRAM keys depend only on user and question, which
// includes the salt; for them server is -1 and database empty.
type secretKey struct {
	server         int
	user, database string
	question       ipc.Question
}

// secrets has the secrets from the supervisor, and the open requests to it.
type secrets struct {
	mu    sync.RWMutex // guards known
	known map[secretKey]ipc.Secret

	// deriving limits how many checks of clients' cleartext passwords run at a time.
	deriving chan struct{}

	// The rest belongs to the loop.
	lastID uint64
	asked  map[uint64]*secretWait
	asking map[secretKey]*secretWait
}

// secretWait is an open request and the logins that wait for its answer.
type secretWait struct {
	key     secretKey
	waiting []chan<- secretTold
}

type secretTold struct {
	secret ipc.Secret
	err    error
}

func newSecrets() *secrets {
	return &secrets{
		known: map[secretKey]ipc.Secret{}, deriving: make(chan struct{}, 2),
		asked: map[uint64]*secretWait{}, asking: map[secretKey]*secretWait{},
	}
}

func (x *secrets) lookUp(k secretKey) (ipc.Secret, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s, ok := x.known[k]
	return s, ok
}

func (x *secrets) keep(k secretKey, s ipc.Secret) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.known) >= maxSecrets {
		clear(x.known)
	}
	x.known[k] = s
}

// forget drops all secrets, because a password may have changed. To derive them again costs
// the next login of each user a few milliseconds.
func (x *secrets) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.known)
}

// credential is the auth.Credential of one login to a server. The goroutine that opens the
// backend uses it.
type credential struct {
	w        *worker
	ctx      context.Context
	server   int
	user     string
	database string
	exists   bool // the supervisor has a password
}

func (c *credential) Known() bool { return c.exists }

func (c *credential) Keys(f auth.Factors) (auth.Keys, error) {
	s, err := c.secret(ipc.Question{Method: ipc.LoginSCRAM, Salt: f.Salt, Iterations: f.Iterations})
	if err != nil {
		return auth.Keys{}, err
	}
	keys, ok := auth.DecodeKeys([]byte(s))
	if !ok {
		return auth.Keys{}, &secretError{errBadKeys}
	}
	return keys, nil
}

func (c *credential) MD5() (string, error) { return c.secret(ipc.Question{Method: ipc.LoginMD5}) }

func (c *credential) Password() (string, error) {
	return c.secret(ipc.Question{Method: ipc.LoginPassword})
}

// secret returns the answer to a question. It asks the supervisor if the answer isn't known
// yet.
func (c *credential) secret(q ipc.Question) (string, error) {
	k := secretKey{server: c.server, user: c.user, database: c.database, question: q}
	if q.Method == ipc.LoginSCRAM {
		k.server, k.database = -1, ""
	}
	if s, ok := c.w.secrets.lookUp(k); ok {
		return s.Reveal(), nil
	}
	told := make(chan secretTold, 1)
	request := &ipc.SecretRequest{Server: c.server, User: c.user, Database: c.database, Question: q}
	c.w.loop.Post(func() { c.w.askSecret(k, request, told) })
	select {
	case t := <-told:
		if t.err != nil {
			return "", &secretError{t.err}
		}
		return t.secret.Reveal(), nil
	case <-c.ctx.Done():
		return "", &secretError{fmt.Errorf("the supervisor gives none: %w", c.ctx.Err())}
	}
}

// askSecret sends a request, unless the answer is known or was already asked for.
func (w *worker) askSecret(k secretKey, m *ipc.SecretRequest, told chan<- secretTold) {
	x := w.secrets
	if s, ok := x.lookUp(k); ok {
		told <- secretTold{secret: s}
		return
	}
	if wait := x.asking[k]; wait != nil {
		wait.waiting = append(wait.waiting, told)
		return
	}
	if len(x.asked) >= ipc.MaxSecretRequests {
		told <- secretTold{err: errManySecrets}
		return
	}
	x.lastID++
	m.ID = x.lastID
	wait := &secretWait{key: k, waiting: []chan<- secretTold{told}}
	x.asked[m.ID], x.asking[k] = wait, wait
	w.send(m)
}

func (w *worker) onSecretAnswer(m *ipc.SecretAnswer) {
	x := w.secrets
	wait := x.asked[m.ID]
	if wait == nil {
		return
	}
	delete(x.asked, m.ID)
	delete(x.asking, wait.key)
	told := secretTold{secret: m.Secret}
	if m.Error != "" {
		told = secretTold{err: errors.New(m.Error)}
	} else {
		x.keep(wait.key, m.Secret)
	}
	for _, ch := range wait.waiting {
		ch <- told
	}
}
