package worker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol of HAProxy (proxy-protocol.txt), versions 1 and 2: a load balancer
// sends a header with the client's address before the client's first byte.
const (
	// proxyLine is the longest header of version 1 according to the specification, in
	// bytes.
	proxyLine = 107
	// proxyRest is how much may follow the fixed part of version 2, in bytes. The
	// addresses take at most 216; the rest isn't used.
	proxyRest = 4096

	proxyText   = "PROXY "
	proxyBinary = "\r\n\r\n\x00\r\nQUIT\n"
)

// proxyError says why a header was refused. It doesn't quote the peer's bytes, except
// numbers, because they may be a start-up packet or a password.
type proxyError struct{ why string }

func (e *proxyError) Error() string { return "PROXY header: " + e.why }

func badProxy(format string, args ...any) error { return &proxyError{fmt.Sprintf(format, args...)} }

// readProxy reads a header of either version, and not a byte more. The address is not valid
// if the header has none, because the connection is the proxy's own or the proxy doesn't
// know the address.
//
// readProxy decides by the first byte whether there is a header. So it doesn't wait for
// further bytes from a client that has sent something else and waits for the answer.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	var head [len(proxyBinary)]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return netip.AddrPort{}, err
	}
	if head[0] != proxyText[0] && head[0] != proxyBinary[0] {
		return netip.AddrPort{}, badProxy("none was sent")
	}
	if err := readOn(r, head[1:]); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case string(head[:]) == proxyBinary:
		return readProxy2(r)
	case bytes.HasPrefix(head[:], []byte(proxyText)):
		return readProxy1(r, head[:])
	}
	return netip.AddrPort{}, badProxy("neither version 1 nor 2")
}

// readOn fills b. Inside a header the end of the connection is a proxyError.
func readOn(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		return badProxy("incomplete: %v", err)
	}
	return nil
}

// readProxy1 reads the rest of the line. It reads byte by byte, because it must not read
// beyond the end of the line.
func readProxy1(r io.Reader, head []byte) (netip.AddrPort, error) {
	line := append(make([]byte, 0, proxyLine), head...)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == proxyLine {
			return netip.AddrPort{}, badProxy("longer than %d bytes", proxyLine)
		}
		line = line[:len(line)+1]
		if err := readOn(r, line[len(line)-1:]); err != nil {
			return netip.AddrPort{}, err
		}
	}
	fields := strings.Split(string(line[:len(line)-2]), " ")
	if fields[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return netip.AddrPort{}, badProxy("not as version 1 has it")
	}
	return proxyAddress(fields[1] == "TCP4", fields[2:])
}

// proxyAddress reads the addresses and ports of version 1 and returns the client's. An error
// in any of them is an error.
func proxyAddress(v4 bool, fields []string) (netip.AddrPort, error) {
	var addrs [2]netip.Addr
	var ports [2]uint16
	for i := range 2 {
		a, err := netip.ParseAddr(fields[i])
		if err != nil || a.Is4() != v4 || a.Zone() != "" {
			return netip.AddrPort{}, badProxy("not as version 1 has it")
		}
		p, err := strconv.ParseUint(fields[2+i], 10, 16)
		if err != nil || strconv.FormatUint(p, 10) != fields[2+i] {
			return netip.AddrPort{}, badProxy("not as version 1 has it")
		}
		addrs[i], ports[i] = a, uint16(p)
	}
	return netip.AddrPortFrom(addrs[0], ports[0]), nil
}

// Values of version 2: version and command in one byte, family and transport in
// the next.
const (
	proxyLocal   = 0x20
	proxyProxied = 0x21

	proxyUnspecified = 0x00
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	proxyStream      = 0x31 // a Unix socket
)

func readProxy2(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	var fixed [4]byte
	if err := readOn(r, fixed[:]); err != nil {
		return none, err
	}
	if fixed[0] != proxyLocal && fixed[0] != proxyProxied {
		return none, badProxy("version and command 0x%02x", fixed[0])
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if n > proxyRest {
		return none, badProxy("%d bytes, more than %d", n, proxyRest)
	}
	rest := make([]byte, n)
	if err := readOn(r, rest); err != nil {
		return none, err
	}
	if fixed[0] == proxyLocal {
		return none, nil
	}
	size := map[byte]int{proxyUnspecified: 0, proxyTCP4: 4, proxyTCP6: 16, proxyStream: 108}
	a, known := size[fixed[1]]
	switch {
	case !known:
		return none, badProxy("family and transport 0x%02x", fixed[1])
	case fixed[1] == proxyUnspecified || fixed[1] == proxyStream:
		return none, nil
	case n < 2*a+4:
		return none, badProxy("%d bytes are too few for its addresses", n)
	}
	addr, _ := netip.AddrFromSlice(rest[:a])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[2*a:])), nil
}
