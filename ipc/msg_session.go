package ipc

import (
	"errors"
	"fmt"
)

// A session goes from one worker to another by these messages. The messages are part of what a worker of
// an earlier version must go on understanding: fields are only added, and SessionVersion is raised
// when a field that is missing would be misread.

// SessionVersion is the newest version of SessionState. Each state has the oldest version that understands it:
// a kept session is of version 2, because version 1 would take it for one of the transaction pipeline.
const (
	SessionVersion = 2
	unkeptVersion  = 1
)

// Pass tells a worker to hand everything over to another one: its sessions, as soon as nothing of
// them is under way, and its idle backends. It ends when it has nothing left.
type Pass struct {
	// Until is how many sessions it may have handed over altogether. The supervisor raises it as
	// the other worker takes them. 0 is a pause.
	Until uint64 `msgpack:"until"`
	// Leave: a session that can't be handed over ends as soon as it isn't in a transaction.
	Leave bool `msgpack:"leave"`
}

// Passed reports that a worker has tried to hand every session over. The numbers are what
// stays until it can be moved: Encrypted sessions can't; the others log in or run a statement.
type Passed struct {
	Moved     uint64 `msgpack:"moved"`
	Encrypted int    `msgpack:"encrypted"`
	Other     int    `msgpack:"other"`
}

// SessionOut gives up a client with its session, and with the backend that it has. The
// client's connection comes with it, then that of the backend, if Lease isn't 0, then, if
// Mapped isn't 0, a file in memory with the state.
type SessionOut struct {
	Client  uint64       `msgpack:"client"`
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
	// State is a packed SessionState. It is a secret, because it has the client's cancel key.
	State Secret `msgpack:"state"`
	// Mapped is the size of the state, in bytes, if it isn't in State.
	Mapped int64 `msgpack:"mapped"`
}

// SessionIn hands a session to another worker, which answers with SessionTaken. Its fields and
// descriptors are those of SessionOut; the lease is a new one. If Cut, the backend was fenced
// on the way: Lease is 0, and its connection doesn't come with the message.
type SessionIn struct {
	Client  uint64       `msgpack:"client"`
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
	State   Secret       `msgpack:"state"`
	Mapped  int64        `msgpack:"mapped"`
	Cut     bool         `msgpack:"cut"`
}

// SessionTaken says that a session has arrived. If it can't be continued, ClientsGone and
// LeaseReturn follow.
type SessionTaken struct {
	Client uint64 `msgpack:"client"`
}

// MaxSessionPacket is the largest session, in bytes, whose state is in the packet: state and
// backend together.
const MaxSessionPacket = 60 << 10

// MaxSessionState is the largest state of a session that a worker reads from a file in memory, in
// bytes: the most that a client's statements may have, and room for what else there is.
const MaxSessionState = 96 << 20

// SessionState is everything that a worker knows about the session of a client, so that another
// worker can continue it. Between two messages nothing else is known.
type SessionState struct {
	Version int    `msgpack:"version"`
	Address string `msgpack:"address"`
	// Minor is the minor version of protocol 3 that the client speaks.
	Minor uint16 `msgpack:"minor"`
	// AgeMS is how long the connection has existed, in milliseconds, and Since when the login
	// ended, in Unix seconds.
	AgeMS int64  `msgpack:"age_ms"`
	Since uint32 `msgpack:"since"`
	// Leaves: the client has left something on a backend.
	Leaves bool `msgpack:"leaves"`
	// Stood is how long the session has stood still, in milliseconds, in a state Load.
	// Cancelled: query_timeout has cancelled its statement.
	StoodMS   int64 `msgpack:"stood_ms"`
	Load      uint8 `msgpack:"load"`
	Cancelled bool  `msgpack:"cancelled"`

	Login SessionLogin `msgpack:"login"`
	// CancelPID and CancelSecret are the key that cancel requests of the client have.
	CancelPID    uint32 `msgpack:"cancel_pid"`
	CancelSecret Secret `msgpack:"cancel_secret"`

	// Waiting: the client waits for a backend, since WaitedMS milliseconds, for what it has
	// said in Unanswered.
	Waiting    bool   `msgpack:"waiting"`
	WaitedMS   int64  `msgpack:"waited_ms"`
	Unanswered Secret `msgpack:"unanswered"`

	Talk Talk        `msgpack:"talk"`
	Held HeldBackend `msgpack:"held"`
}

// SessionLogin is what the client asked for in its start-up packet.
type SessionLogin struct {
	User      string    `msgpack:"user"`
	Database  string    `msgpack:"database"`
	Requested string    `msgpack:"requested"`
	Follow    []Setting `msgpack:"follow"`
	Rest      []Setting `msgpack:"rest"`
	Key       PoolKey   `msgpack:"key"`
	Unproven  bool      `msgpack:"unproven"`
}

// Talk is a conversation between two messages.
type Talk struct {
	// Keeps: the client keeps its backend. Only Moves and Touched belong to this kind; all other
	// fields belong to the other kind.
	Keeps   bool `msgpack:"keeps"`
	Moves   bool `msgpack:"moves"`
	Touched bool `msgpack:"touched"`

	// Tracked are the values of the tracked parameters that the client knows, Initial those after
	// its login, Untracked the other parameters that it knows.
	Tracked   []string `msgpack:"tracked"`
	Initial   []string `msgpack:"initial"`
	Untracked string   `msgpack:"untracked"`
	// Named are the client's prepared statements.
	Named   []NamedStatement `msgpack:"named"`
	Unnamed UnnamedStatement `msgpack:"unnamed"`
	Portal  uint32           `msgpack:"portal"`
	Portals uint32           `msgpack:"portals"`
	// Block is the transaction block that the client believes in while it has no backend.
	// Discarding: its messages are dropped up to a Sync. Failure is what its next batch gets, if Fails.
	Block      uint8  `msgpack:"block"`
	Discarding bool   `msgpack:"discarding"`
	Fails      bool   `msgpack:"fails"`
	Failure    []byte `msgpack:"failure"`

	// Keep is what is known of a kept session. Version 2.
	Keep KeptSession `msgpack:"keep"`
}

// KeptSession is what a kept session has more than one of the transaction pipeline. relay.Keep explains it.
type KeptSession struct {
	On      bool         `msgpack:"on"`
	Trusts  bool         `msgpack:"trusts"`
	Sets    []Assignment `msgpack:"sets"`
	Pending []Assignment `msgpack:"pending"`
	Mark    string       `msgpack:"mark"`
	Blind   string       `msgpack:"blind"`
	Touched bool         `msgpack:"touched"`
	Unseen  bool         `msgpack:"unseen"`
	Portal  KeptEffect   `msgpack:"portal"`
	Portals KeptEffect   `msgpack:"portals"`
	Unnamed KeptEffect   `msgpack:"unnamed"`
}

// KeptEffect is what a statement of a kept session leaves behind. Not There: the statement is unknown or leaves nothing.
type KeptEffect struct {
	There bool         `msgpack:"there"`
	Sets  []Assignment `msgpack:"sets"`
	Mark  string       `msgpack:"mark"`
	Lasts bool         `msgpack:"lasts"`
}

// Assignment is a SET or RESET of a kept session.
type Assignment struct {
	Name  string `msgpack:"name"`
	SQL   string `msgpack:"sql"`
	Reset bool   `msgpack:"reset"`
}

// NamedStatement is a prepared statement of a client. Text is the body of its Parse message behind
// the name, Key its identity, and Settings the tracked parameters that it was parsed with.
// Params and Hash are what the server has said about it, empty if it hasn't yet.
type NamedStatement struct {
	Name     string   `msgpack:"name"`
	Key      string   `msgpack:"key"`
	Text     string   `msgpack:"text"`
	Settings []string `msgpack:"settings"`
	Traits   uint32   `msgpack:"traits"`
	Naming   bool     `msgpack:"naming"`
	Params   string   `msgpack:"params"`
	Hash     string   `msgpack:"hash"`
}

// UnnamedStatement is the unnamed statement of a client.
type UnnamedStatement struct {
	Exists bool   `msgpack:"exists"`
	Here   bool   `msgpack:"here"`
	Kept   bool   `msgpack:"kept"`
	Used   bool   `msgpack:"used"`
	Traits uint32 `msgpack:"traits"`
	Number uint64 `msgpack:"number"`
	Text   string `msgpack:"text"`
}

// HeldBackend is what is known of a backend only while a client has it.
type HeldBackend struct {
	Private   bool  `msgpack:"private"`
	Spoiled   bool  `msgpack:"spoiled"`
	Indelible bool  `msgpack:"indelible"`
	Status    uint8 `msgpack:"status"`
	Resets    bool  `msgpack:"resets"`
	// Dirty and Sequences are what the present transaction leaves behind, Sets that it may have
	// changed settings.
	Dirty     bool `msgpack:"dirty"`
	Sequences bool `msgpack:"sequences"`
	Sets      bool `msgpack:"sets"`
}

var errSessionVersion = errors.New("the state is of another version")

// PackSession encodes a state.
func PackSession(s *SessionState) (Secret, error) {
	s.Version = unkeptVersion
	if s.Talk.Keep.On {
		s.Version = SessionVersion
	}
	p, err := Pack(s)
	return Secret(p), err
}

// UnpackSession decodes a state. An error means that the session can't be continued.
func UnpackSession(p Secret) (*SessionState, error) {
	s := &SessionState{}
	if err := Packed(p.Reveal()).Unpack(s); err != nil {
		return nil, err
	}
	if s.Version < unkeptVersion || s.Version > SessionVersion {
		return nil, fmt.Errorf("%w: %d", errSessionVersion, s.Version)
	}
	return s, nil
}

// Format keeps the State from being printed.
func (SessionOut) Format(s fmt.State, _ rune) { hide(s, "SessionOut") }

// Format keeps the State from being printed.
func (SessionIn) Format(s fmt.State, _ rune) { hide(s, "SessionIn") }

// Format keeps the cancel key, and what the client has said, from being printed.
func (SessionState) Format(s fmt.State, _ rune) { hide(s, "SessionState") }

func (*SessionOut) Number() Number   { return 34 }
func (*SessionIn) Number() Number    { return 35 }
func (*SessionTaken) Number() Number { return 36 }
func (*Pass) Number() Number         { return 72 }
func (*Passed) Number() Number       { return 73 }
