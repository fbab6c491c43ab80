// Package ipc holds the messages between pgagroal's processes, and nothing else.
//
// A link is a Unix socket of type SOCK_SEQPACKET: one packet is one message, so a descriptor always
// arrives together with its message. A packet is a two-byte message number (big endian) followed by
// one msgpack map with named fields. Unknown fields are ignored, a missing field is the zero value.
// A packet is at most MaxPacket bytes; data that grows with the configuration is sent as Begin /
// Item / End with a generation number.
//
// The catalogue (catalogue.go) has one row per message: who sends it, who may
// receive it, how many descriptors come with it, in which phase of the link,
// and which message answers it. Conn checks the row before it decodes a byte
// and closes the descriptors of a packet that it refuses.
//
// What may not live here: policy, configuration, logging beyond the one trace
// line that Conn writes for each message, and imports of our other packages.
// Only this package imports msgpack.
package ipc
