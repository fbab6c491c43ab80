package ipc

import "fmt"

// With auth_query a worker asks the supervisor for the stored password of a user that no file of pgagroal has. The
// supervisor has the prober ask a server, so no worker ever has the credential of the user that may ask.

// MaxStoredRequests bounds the open requests of one worker.
const MaxStoredRequests = 256

// MaxStored bounds a stored password, in bytes. A verifier with a long salt has about 500.
const MaxStored = 1024

// StoredRequest asks for what the servers store of a user's password. Database is that of the client, and empty if
// auth_query asks in one database for all. TimeoutMS is how long the worker waits. Known says that the user was found before.
type StoredRequest struct {
	ID        uint64 `msgpack:"id"`
	User      string `msgpack:"user"`
	Database  string `msgpack:"database"`
	TimeoutMS int64  `msgpack:"timeout_ms"`
	Known     bool   `msgpack:"known"`
}

// StoredAnswer answers it. Stored is empty if nothing is stored, as for a user that doesn't exist. With an Error nothing
// is known.
type StoredAnswer struct {
	ID     uint64 `msgpack:"id"`
	Stored Secret `msgpack:"stored"`
	Error  string `msgpack:"error"`
}

// LookUpRequest has the prober execute a statement as the first login of the target, with User as the value of $1. The
// prober keeps at most Keep connections for further requests.
type LookUpRequest struct {
	ID        uint64 `msgpack:"id"`
	Target    Target `msgpack:"target"`
	Statement string `msgpack:"statement"`
	User      string `msgpack:"user"`
	Keep      int    `msgpack:"keep"`
}

// LookUpDone answers it. Stored is the last column of the only row, and empty if that is NULL or there is no row. With an
// Error nothing is known. NoDatabase says that the error is a database that doesn't exist.
type LookUpDone struct {
	ID         uint64 `msgpack:"id"`
	Stored     Secret `msgpack:"stored"`
	Error      string `msgpack:"error"`
	NoDatabase bool   `msgpack:"no_database"`
}

// LookUpStop has the prober close all connections for LookUpRequests to a server. Requests that are under way fail.
type LookUpStop struct {
	Server int `msgpack:"server"` // index
}

// Format keeps Stored from being printed.
func (StoredAnswer) Format(s fmt.State, _ rune) { hide(s, "StoredAnswer") }

// Format keeps the password of the login from being printed.
func (LookUpRequest) Format(s fmt.State, _ rune) { hide(s, "LookUpRequest") }

// Format keeps Stored from being printed.
func (LookUpDone) Format(s fmt.State, _ rune) { hide(s, "LookUpDone") }

func (*StoredRequest) Number() Number { return 78 }
func (*StoredAnswer) Number() Number  { return 79 }
func (*LookUpRequest) Number() Number { return 115 }
func (*LookUpDone) Number() Number    { return 116 }
func (*LookUpStop) Number() Number    { return 117 }
