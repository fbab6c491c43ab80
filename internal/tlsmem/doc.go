// Package tlsmem runs crypto/tls over memory, so that an event loop can own an
// encrypted connection: the loop passes in the ciphertext that it received, and takes out
// the ciphertext that it has to send. Except for Dial, nothing in here touches a descriptor.
//
//  1. Server or Client starts the handshake in a goroutine, because crypto/tls can't
//     continue a handshake that has returned for lack of input, and because a signature
//     must not stop the loop. The loop calls Feed with what arrives, sends Pending, and
//     calls Abort when its timer runs out. wake tells the loop that there is output, or
//     that the handshake has ended. A Gate bounds how many handshakes compute at a time.
//     Accept does a cheap handshake on a coroutine of the loop instead.
//     A goroutine that may block calls Dial instead, which handshakes over the connection
//     itself, and gives the connection to a loop later (Wired, in wired.go).
//  2. Once Handshake reports the end, everything belongs to the loop's goroutine and
//     there are no locks any more. The loop then calls Receive once without ciphertext,
//     because the segment that completed the handshake may have contained data.
//  3. Receive decrypts what arrived, and passes on the records that came together in one
//     piece. An incomplete record waits for the bytes that follow.
//  4. Write encrypts into a buffer, which the loop sends once a turn with Pending and
//     Sent. Full tells the loop to stop reading from the source of these bytes. Reading
//     may write as well (KeyUpdate, alerts), so the loop looks at Pending after both.
//  5. Read and Receive return how a connection ended; CauseOf names it for a metric.
//
// conn.go has all these functions, transport.go the net.Conn in memory that crypto/tls
// uses, gate.go the bound of handshakes. memory.go takes back the buffers of idle
// connections. facts.go tells the caller about the session, cause.go has the errors.
//
// It imports none of our packages.
package tlsmem
