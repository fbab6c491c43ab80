package ipc

import "fmt"

// A worker holds no passwords. When a server asks a user to prove itself, the worker asks the supervisor
// for what it needs to answer, and the supervisor first has the prober see what the server asks for.

// LoginMethod is how a server has a user prove itself.
type LoginMethod uint8

// The methods. A server that asks for nothing is LoginTrust, with which there is no secret.
const (
	LoginTrust LoginMethod = iota + 1
	LoginPassword
	LoginMD5
	LoginSCRAM
)

var loginMethods = [...]string{LoginTrust: "trust", LoginPassword: "password", LoginMD5: "md5", LoginSCRAM: "scram-sha-256"}

func (m LoginMethod) String() string {
	if m == 0 || int(m) >= len(loginMethods) {
		return "unknown method"
	}
	return loginMethods[m]
}

// MaxLoginSalt bounds a salt, and MaxSecretRequests the open requests of one worker.
const (
	MaxLoginSalt      = 256
	MaxSecretRequests = 256
)

// Question is what a server asks of a user: Salt, in raw bytes, and Iterations are those of LoginSCRAM.
type Question struct {
	Method     LoginMethod `msgpack:"method"`
	Salt       string      `msgpack:"salt"`
	Iterations int         `msgpack:"iterations"`
}

// SecretRequest asks for what answers a server's question.
type SecretRequest struct {
	ID       uint64   `msgpack:"id"`
	Server   int      `msgpack:"server"` // index
	User     string   `msgpack:"user"`
	Database string   `msgpack:"database"`
	Question Question `msgpack:"question"`
}

// SecretAnswer answers it. Secret is, by the method, the password, the hash that md5 needs, or the keys of
// SCRAM. It is empty if there is an Error.
type SecretAnswer struct {
	ID     uint64 `msgpack:"id"`
	Secret Secret `msgpack:"secret"`
	Error  string `msgpack:"error"`
}

// QuestionRequest has the prober see what a server asks of the first login of the target, and go away.
type QuestionRequest struct {
	ID     uint64 `msgpack:"id"`
	Target Target `msgpack:"target"`
}

// QuestionDone answers it. With an Error nothing is known.
type QuestionDone struct {
	ID       uint64   `msgpack:"id"`
	Question Question `msgpack:"question"`
	Error    string   `msgpack:"error"`
}

// Format keeps Secret from being printed.
func (SecretAnswer) Format(s fmt.State, _ rune) { hide(s, "SecretAnswer") }

// Format keeps the passwords of the logins from being printed.
func (QuestionRequest) Format(s fmt.State, _ rune) { hide(s, "QuestionRequest") }

func (*SecretRequest) Number() Number   { return 54 }
func (*SecretAnswer) Number() Number    { return 55 }
func (*QuestionRequest) Number() Number { return 112 }
func (*QuestionDone) Number() Number    { return 113 }
