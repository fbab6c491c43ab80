package ipc

// RemoteOpen asks for a connection to the supervisor for one login of an admin: the console passes on
// there what it has read at the management port, and decides nothing.
type RemoteOpen struct {
	ID uint64 `msgpack:"id"`
}

// RemoteOpened carries the console's end of that connection, whose role is RoleRemote.
type RemoteOpened struct {
	ID uint64 `msgpack:"id"`
}

// RemoteBusy says that all places for logins of admins are taken.
type RemoteBusy struct {
	ID uint64 `msgpack:"id"`
}

// RemoteLogin begins the login of an admin.
type RemoteLogin struct {
	User    string `msgpack:"user"`
	Address string `msgpack:"address"` // and port
	TLS     bool   `msgpack:"tls"`
	// Nonce is that of the admin's first message.
	Nonce string `msgpack:"nonce"`
}

// RemoteChallenge is what the admin must prove its password for.
type RemoteChallenge struct {
	Nonce      string `msgpack:"nonce"`
	Salt       []byte `msgpack:"salt"`
	Iterations int    `msgpack:"iterations"`
}

// RemoteProof is the admin's last message. Binding is what the login is bound to.
type RemoteProof struct {
	Binding string `msgpack:"binding"`
	Proof   []byte `msgpack:"proof"`
}

// RemoteProven says that the proof is right, and proves that to the admin.
type RemoteProven struct {
	Signature []byte `msgpack:"signature"`
}

// RemoteRefused ends the connection: see LeaseRefuse.
type RemoteRefused struct {
	Refusal uint8    `msgpack:"refusal"`
	Words   []string `msgpack:"words"`
}

// RemoteCommand is the command of an admin who has logged in. Its seal shows that the admin has sent it.
type RemoteCommand struct {
	Version int               `msgpack:"version"`
	Command string            `msgpack:"command"`
	Args    map[string]string `msgpack:"args"`
	Seal    []byte            `msgpack:"seal"`
}

// RemoteReply is a piece of the answer, a JSON document. Its seal shows the admin that the supervisor
// has sent it.
type RemoteReply struct {
	Data []byte `msgpack:"data"`
	Last bool   `msgpack:"last"`
	Seal []byte `msgpack:"seal"`
}

func (*RemoteOpen) Number() Number      { return 150 }
func (*RemoteOpened) Number() Number    { return 151 }
func (*RemoteBusy) Number() Number      { return 152 }
func (*RemoteLogin) Number() Number     { return 153 }
func (*RemoteChallenge) Number() Number { return 154 }
func (*RemoteProof) Number() Number     { return 155 }
func (*RemoteProven) Number() Number    { return 156 }
func (*RemoteRefused) Number() Number   { return 157 }
func (*RemoteCommand) Number() Number   { return 158 }
func (*RemoteReply) Number() Number     { return 159 }
