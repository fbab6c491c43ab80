package worker

import (
	"bytes"
	"encoding/binary"
)

// msg builds a message of the given type.
func msg(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

func ready(status string) []byte        { return msg('Z', status) }
func parseMsg(name, text string) []byte { return msg('P', name+"\x00"+text+"\x00\x00\x00") }
func closeMsg(name string) []byte       { return msg('C', "S"+name+"\x00") }
func join(ms ...[]byte) []byte          { return bytes.Join(ms, nil) }

var (
	query = msg('Q', "SELECT 1\x00")
	sync_ = msg('S', "")
)
