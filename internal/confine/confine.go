package confine

// Policy says what a process still needs. With the zero value it may only use the
// descriptors that it has.
type Policy struct {
	// Ports are the TCP ports that it connects to, on any host.
	Ports []uint16
	// SocketDirs are the directories of the Unix stream sockets that it connects to.
	SocketDirs []string
	// Ring says that it uses an io_uring ring, which it has already made.
	Ring bool
}

// Report says what confines a process, in words for the operator.
type Report struct {
	// InForce names what the kernel enforces, Lacking what it can't enforce and why.
	InForce, Lacking []string
}

// Apply confines all threads of this process forever. It reports the parts that the
// kernel or an outer sandbox doesn't allow as lacking. After an error the process must
// end: the kernel supports the part, but it isn't in force.
func Apply(p Policy) (Report, error) {
	var r Report
	if err := restrictFiles(p, &r); err != nil {
		return r, err
	}
	// Last, because Landlock needs system calls that the filter refuses.
	err := filterCalls(p, &r)
	return r, err
}
