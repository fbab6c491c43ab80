package ipc

// ControlRequest is one command of pgagroal-cli.
type ControlRequest struct {
	Version int               `msgpack:"version"`
	Command string            `msgpack:"command"`
	Args    map[string]string `msgpack:"args"`
}

// ControlReply is a piece of the answer, which is a JSON document: the pieces
// are joined until one comes without More. Error is set on the last piece when
// the command failed; Code is its number in the manual.
type ControlReply struct {
	Data  []byte `msgpack:"data"`
	More  bool   `msgpack:"more"`
	Error string `msgpack:"error"`
	Code  int    `msgpack:"code"`
}

func (*ControlRequest) Number() Number { return 90 }
func (*ControlReply) Number() Number   { return 91 }
