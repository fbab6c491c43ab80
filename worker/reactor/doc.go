// Package reactor is the event loop of a worker: one goroutine, locked to its
// thread, that owns every established connection. It moves bytes and knows
// nothing of PostgreSQL.
//
//  1. Loop.Run waits for the kernel. While it is busy, it waits with raw system calls,
//     which Go's scheduler doesn't know of. After a millisecond without an event it waits
//     with a call that the scheduler knows of, so that other goroutines get the processor.
//  2. Bytes that arrived go to the connection's Handler, which may Send to other
//     connections of the loop, Pause and Resume them, or Close them.
//  3. Bytes that the kernel doesn't accept at once wait in the connection's queue. The
//     loop calls the Handler's Flushed when the queue is empty again. The Handler must
//     pause the source of a queue that is Full, which bounds memory.
//  4. Then due timers run, then functions posted by other goroutines.
//
// A driver makes the system calls: epoll.go, or uring.go if the kernel allows
// io_uring. Both keep the same promises, and the tests run on both. A Handler gets
// bytes that are valid during the call only. After Pause, bytes that were already
// received wait in the driver until Resume. The descriptor may be closed only after Close
// has returned.
//
// secure.go encrypts connections with package tlsmem.
//
// Some owners read their connection message by message, for example during a login. The
// loop doesn't read for them: Await reports when there is something to Read. Poll does the
// same for descriptors that are no connections.
//
// Everything but Post and Stop belongs to the loop's own goroutine.
package reactor
