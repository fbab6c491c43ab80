package ipc

// A worker looks no name up and sees no interface: it asks the supervisor when a rule of pgagroal_hba.conf with a
// host name, samehost or samenet could decide.

// Bounds of the messages here: the open requests of one worker, and the names and networks in an answer.
const (
	MaxPeerRequests = 256
	MaxPeerHosts    = 16
	MaxPeerOwn      = 64
)

// PeerRequest asks about the address of a client. With Hosts it asks for the address's names, else for this
// machine's own addresses.
type PeerRequest struct {
	ID      uint64 `msgpack:"id"`
	Address string `msgpack:"address"` // without a port
	Hosts   bool   `msgpack:"hosts"`
}

// PeerAnswer answers it. Hosts are the names for which a look-up gives the address again. Own are this machine's
// addresses whose network holds the client's, as CIDR. Both are empty if nothing is known.
type PeerAnswer struct {
	ID    uint64   `msgpack:"id"`
	Hosts []string `msgpack:"hosts"`
	Own   []string `msgpack:"own"`
}

func (*PeerRequest) Number() Number { return 56 }
func (*PeerAnswer) Number() Number  { return 57 }
