package confine

// Policy says what a process still needs. The zero value talks on the
// descriptors that it has and does nothing else.
type Policy struct {
	// Ports are the TCP ports that it connects to, on any host.
	Ports []uint16
	// SocketDirs are the directories of the Unix stream sockets that it connects to.
	SocketDirs []string
	// Ring says that it drives an io_uring ring, which it has made before.
	Ring bool
}

// Report tells what confines a process, in words for the operator.
type Report struct {
	// InForce names what the kernel enforces, Lacking what it can't enforce and why.
	InForce, Lacking []string
}

// Apply confines all threads of this process for good. A part that the kernel
// or an outer sandbox doesn't grant is reported as lacking. After an error the
// process must end: the kernel has the part, and it isn't in force.
func Apply(p Policy) (Report, error) {
	var r Report
	if err := restrictFiles(p, &r); err != nil {
		return r, err
	}
	// Last, because Landlock needs system calls that the filter refuses.
	err := filterCalls(p, &r)
	return r, err
}
