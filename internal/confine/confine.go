package confine

// Policy says what a process still needs. With the zero value the process can only use
// the descriptors that it has.
type Policy struct {
	// Ports are the TCP ports that the process connects to, on any host.
	Ports []uint16
	// SocketDirs are the directories of the Unix stream sockets that the process
	// connects to.
	SocketDirs []string
	// Accept says that the process accepts connections at listening sockets that it has.
	Accept bool
	// Ring says that the process uses an io_uring ring, which it has already made.
	Ring bool
}

// Report says what confines a process, in words for the operator.
type Report struct {
	// InForce names the parts that the kernel enforces, Lacking those that it can't
	// enforce and why.
	InForce, Lacking []string
	// OnlyPorts and OnlyDirs say that the kernel keeps the process from connecting to ports and socket directories outside the
	// policy.
	OnlyPorts, OnlyDirs bool
}

// Apply confines all threads of this process forever. It reports as lacking the parts
// that the kernel doesn't support or an outer sandbox forbids. An error means that a part
// is supported but not in force; the process must then end.
func Apply(p Policy) (Report, error) {
	var r Report
	if err := restrictFiles(p, &r); err != nil {
		return r, err
	}
	// The filter comes last, because it refuses the system calls that Landlock needs.
	err := filterCalls(p, &r)
	return r, err
}
