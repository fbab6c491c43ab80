// Package tlsmem runs crypto/tls over memory, so that an event loop can own an
// encrypted connection: the loop feeds ciphertext that it received, and takes
// ciphertext that it has to send. Nothing in here touches a descriptor.
//
//  1. Server or Client starts the handshake in a goroutine, because crypto/tls can't
//     resume a handshake and because a signature must not stop the loop. The loop
//     calls Feed with what arrives, sends Pending, and closes by Abort when its timer
//     runs out. wake tells the loop that there is output, or that the handshake ended.
//  2. Once Handshake says that it is complete, everything belongs to the loop's
//     goroutine and no lock is left. The caller calls Receive once with nothing, since
//     data may have come in the segment that completed the handshake.
//  3. Receive decrypts what arrived, record by record. A record that isn't complete
//     waits; reading goes on with the bytes that follow, at whichever byte it stopped.
//  4. Write encrypts into a buffer which the loop sends once a turn: Pending, then Sent.
//     Full tells the loop to stop reading from the source of these bytes. Reading may
//     write as well (KeyUpdate, alerts), so the loop looks at Pending after both.
//  5. Read and Receive say how a connection ended; CauseOf names it for a metric.
//
// conn.go is the above, transport.go the net.Conn in memory, memory.go how an idle
// connection gives its buffers back, facts.go what the caller needs to know of the
// session, cause.go the errors.
//
// It imports none of our packages.
package tlsmem
