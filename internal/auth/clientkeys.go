package auth

import (
	"container/list"
	"strconv"
	"strings"
	"sync"

	"github.com/xdg-go/scram"
)

const (
	// maxIterations limits how much a server can make us compute: about a second of one core.
	maxIterations = 2_000_000
	// maxSalts is how many salts of one user are kept. A role has one per server; more come from a server that makes
	// up a new one each time.
	maxSalts = 16
)

// ClientKeys caches the keys for logins to servers, by user, password, salt and iterations, so that only the first
// login of a user pays for their derivation. It keeps the most recently used users.
//
// xdg-go/scram's Client caches per salt, without bound and without a limit for iterations; both are added here.
// It is safe for concurrent use.
type ClientKeys struct {
	mu      sync.Mutex
	max     int
	entries map[clientID]*list.Element // values: *clientEntry
	recent  list.List                  // most recently used first
}

type clientID struct{ user, password string }

type clientEntry struct {
	id     clientID
	client *scram.Client
	mu     sync.Mutex
	seen   map[string]bool // salts and iterations whose keys client has
}

// NewClientKeys returns an empty cache for max users, at least one.
func NewClientKeys(max int) *ClientKeys {
	return &ClientKeys{max: max, entries: make(map[clientID]*list.Element)}
}

// String hides the content.
func (k *ClientKeys) String() string { return "[client keys]" }

// GoString hides the content.
func (k *ClientKeys) GoString() string { return k.String() }

// entry returns the entry of a user, and makes one if there is none. It works on a nil cache.
func (k *ClientKeys) entry(user, password string) (*clientEntry, error) {
	id := clientID{user, password}
	if k == nil {
		return newClientEntry(id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if el, ok := k.entries[id]; ok {
		k.recent.MoveToFront(el)
		return el.Value.(*clientEntry), nil
	}
	e, err := newClientEntry(id)
	if err != nil {
		return nil, err
	}
	k.entries[id] = k.recent.PushFront(e)
	for k.recent.Len() > max(k.max, 1) {
		k.remove(k.recent.Back())
	}
	return e, nil
}

func newClientEntry(id clientID) (*clientEntry, error) {
	// PostgreSQL ignores the user name in SCRAM messages and uses that of the start-up packet; libpq sends none.
	c, err := scram.SHA256.NewClientUnprepped("", prepPassword(id.password), "")
	if err != nil {
		return nil, protocolError("SCRAM client could not be set up")
	}
	return &clientEntry{id: id, client: c.WithMinIterations(1), seen: make(map[string]bool)}, nil
}

// forget drops an entry with too many salts; the next login begins a new one.
func (k *ClientKeys) forget(e *clientEntry) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if el, ok := k.entries[e.id]; ok && el.Value == e {
		k.remove(el)
	}
}

func (k *ClientKeys) remove(el *list.Element) {
	delete(k.entries, el.Value.(*clientEntry).id)
	k.recent.Remove(el)
}

// answer computes the reply to serverFirst. Logins that need the same new keys share one derivation.
func (k *ClientKeys) answer(e *clientEntry, conv *scram.ClientConversation, serverFirst string) (string, error) {
	factors, err := keyFactors(serverFirst)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	if e.seen[factors] {
		e.mu.Unlock()
		return step(conv, serverFirst)
	}
	defer e.mu.Unlock()
	reply, err := step(conv, serverFirst)
	if err != nil {
		return "", err
	}
	if e.seen[factors] = true; len(e.seen) >= maxSalts {
		k.forget(e)
	}
	return reply, nil
}

// step hides the errors of xdg-go/scram, because they quote the messages.
func step(conv *scram.ClientConversation, challenge string) (string, error) {
	reply, err := conv.Step(challenge)
	if err != nil {
		return "", protocolError("malformed SCRAM message from server")
	}
	return reply, nil
}

// keyFactors checks the iterations of a server-first message and returns the part that determines the keys.
func keyFactors(serverFirst string) (string, error) {
	fields := strings.SplitN(serverFirst, ",", 4)
	if len(fields) < 3 || !strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return "", protocolError("malformed SCRAM message from server")
	}
	n, err := strconv.Atoi(fields[2][len("i="):])
	if err != nil || n < 1 || n > maxIterations {
		return "", protocolError("server asks for a number of SCRAM iterations outside 1 to " + strconv.Itoa(maxIterations))
	}
	return fields[1] + "," + fields[2], nil
}
