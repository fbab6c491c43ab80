// Package login tests who is let in and how, and what may come before a login: other protocol
// versions, proxy headers, half a packet, garbage.
package login
