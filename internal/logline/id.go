package logline

import (
	"crypto/sha256"
	"encoding/hex"
)

// MessageID returns the MESSAGE_ID that the journal has for a message: 32 hexadecimal
// digits, made from the text, so that equal events have equal ids in every release that
// doesn't change the text.
func MessageID(message string) string {
	h := sha256.Sum256([]byte("pgagroal " + message))
	h[6] = h[6]&0x0f | 0x80 // version 8 and the variant of RFC 9562
	h[8] = h[8]&0x3f | 0x80
	return hex.EncodeToString(h[:16])
}
