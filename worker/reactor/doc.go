// Package reactor is the event loop of a worker: one goroutine, locked to its
// thread, that owns every established connection. It moves bytes and knows
// nothing of PostgreSQL.
//
//  1. Loop.Run waits for the kernel: one raw call of at most a millisecond and,
//     when that times out, one call announced to the scheduler without limit.
//  2. Bytes that arrived are given to the connection's Handler, which may Send
//     to other connections of the loop, Pause and Resume them, or Close them.
//  3. What the kernel doesn't take at once waits in the connection's queue; the
//     Handler's Flushed is called when the queue is empty again. A full queue
//     pauses the source of its bytes, which bounds memory.
//  4. Then due timers run, then functions posted by other goroutines.
//
// A driver makes the system calls: epoll.go, or uring.go if the kernel allows
// io_uring. Both keep the same promises, and the tests run on both. A Handler gets
// bytes that are valid during the call only. After Pause, bytes that were already
// received wait in the driver until Resume. Close may finish after it has returned.
//
// The loop doesn't read a connection whose owner reads it message by message,
// because it has more to decide than where bytes go: Await reports when there is
// something to Read. Poll does the same for descriptors that are no connections.
//
// Everything but Post and Stop belongs to the loop's own goroutine.
package reactor
