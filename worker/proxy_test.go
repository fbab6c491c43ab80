package worker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// proxy2 is a header of version 2.
func proxy2(command, family byte, rest string) string {
	b := append([]byte(proxyBinary), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(rest)))) + rest
}

const (
	v4Addresses = "\xc0\x00\x02\x07\x7f\x00\x00\x01\x30\x39\x15\x38"
	v6Addresses = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x30\x39\x15\x38"
)

func goodHeaders() map[string]string {
	return map[string]string{
		"PROXY TCP4 192.0.2.7 127.0.0.1 12345 5432\r\n":    "192.0.2.7:12345",
		"PROXY TCP6 2001:db8::7 ::1 12345 5432\r\n":        "[2001:db8::7]:12345",
		"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n":               "0.0.0.0:0",
		"PROXY UNKNOWN\r\n":                                "",
		"PROXY UNKNOWN ffff::1 whatever it says 1 2 3\r\n": "",
		"PROXY TCP6 " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n": "[" + strings.Repeat("ffff:", 7) + "ffff]:65535",
		proxy2(0x21, 0x11, v4Addresses):                                "192.0.2.7:12345",
		proxy2(0x21, 0x21, v6Addresses):                                "[2001:db8::7]:12345",
		proxy2(0x21, 0x11, v4Addresses+"\x03\x00\x04\x01\x02\x03\x04"): "192.0.2.7:12345",
		proxy2(0x20, 0x11, v4Addresses):                                "",
		proxy2(0x20, 0x00, ""):                                         "",
		proxy2(0x21, 0x00, "anything"):                                 "",
		proxy2(0x21, 0x31, strings.Repeat("/", 216)):                   "",
		proxy2(0x21, 0x11, v4Addresses+strings.Repeat("x", 4084)):      "192.0.2.7:12345",
	}
}

// readProxy reads the whole header, however it is split, and no byte after it.
func TestProxyHeaderIsTakenExactly(t *testing.T) {
	for header, want := range goodHeaders() {
		for name, split := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			r := bytes.NewReader([]byte(header + "rest"))
			got, err := readProxy(split(r))
			switch {
			case err != nil:
				t.Errorf("%.60q, %s: %v", header, name, err)
			case want == "" && got.IsValid() || want != "" && got.String() != netip.MustParseAddrPort(want).String():
				t.Errorf("%.60q, %s: %v, want %q", header, name, got, want)
			}
			if r.Len() != len("rest") {
				t.Errorf("%.60q, %s: %d bytes are left", header, name, r.Len())
			}
		}
	}
}

func TestProxyHeaderIsRefusedWhenBroken(t *testing.T) {
	long := "PROXY TCP6 " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 655350\r\n"
	for _, header := range []string{
		"\x00\x00\x00\x08\x04\xd2\x16\x2f", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00",
		"PROXYTCP4 1.2.3.4 1.2.3.4 1 2\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PUT / HTTP/1.1\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n", "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY \r\n1234567890",
		"PROXY UNKNOWN\n" + strings.Repeat("x", 200), "PROXY UNKNOWN " + strings.Repeat("x", 200), long,
		proxy2(0x22, 0x11, v4Addresses), proxy2(0x11, 0x11, v4Addresses), proxy2(0x01, 0x11, v4Addresses),
		proxy2(0x21, 0x12, v4Addresses), proxy2(0x21, 0x22, v6Addresses), proxy2(0x21, 0x41, v4Addresses), proxy2(0x21, 0xff, ""),
		proxy2(0x21, 0x11, v4Addresses[:11]), proxy2(0x21, 0x21, v6Addresses[:35]), proxy2(0x21, 0x21, v4Addresses),
		proxy2(0x21, 0x11, v4Addresses+strings.Repeat("x", 4085)), proxyBinary + "\x21\x11\xff\xff",
		strings.Replace(proxy2(0x21, 0x11, v4Addresses), "QUIT", "QUIt", 1),
	} {
		addr, err := readProxy(strings.NewReader(header))
		var pe *proxyError
		if !errors.As(err, &pe) || addr.IsValid() {
			t.Errorf("%.60q: %v, %v", header, addr, err)
		}
	}
}

func TestProxyHeaderThatEndsEarlyIsNoEnd(t *testing.T) {
	for header := range goodHeaders() {
		for n := range min(len(header), 300) {
			_, err := readProxy(strings.NewReader(header[:n]))
			var pe *proxyError
			if n == 0 && err != io.EOF || n > 0 && !errors.As(err, &pe) {
				t.Fatalf("%.60q cut after %d: %v", header, n, err)
			}
		}
	}
}

// A client that sends no header waits for an answer, so one byte must be enough to refuse it.
func TestMissingProxyHeaderIsSeenAtTheFirstByte(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = w.Write([]byte{0}) }()
	if _, err := readProxy(r); err == nil || !strings.Contains(err.Error(), "none was sent") {
		t.Error(err)
	}
}

func FuzzProxyHeader(f *testing.F) {
	for header := range goodHeaders() {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		addr, err := readProxy(r)
		if err != nil {
			return
		}
		used := data[:len(data)-r.Len()]
		if len(used) > proxyRest+16 || addr.IsValid() && addr.Addr().Zone() != "" {
			t.Fatalf("%q gives %v", used, addr)
		}
		if again, err := readProxy(bytes.NewReader(used)); err != nil || again != addr {
			t.Fatalf("%q gives %v, and by itself %v, %v", used, addr, again, err)
		}
	})
}
