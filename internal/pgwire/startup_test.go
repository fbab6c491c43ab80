package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packet returns a first packet with a code, followed by rest.
func packet(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, rest...)
}

const version30 = 3 << 16

func TestReadStartupUnderstandsEveryFirstPacket(t *testing.T) {
	longKey := strings.Repeat("k", 256)
	for name, tc := range map[string]struct {
		in   []byte
		want Startup
	}{
		"SSLRequest":        {packet(codeSSL, ""), Startup{Kind: SSLRequest}},
		"GSSENCRequest":     {packet(codeGSSENC, ""), Startup{Kind: GSSENCRequest}},
		"CancelRequest":     {packet(codeCancel, "\x00\x00\x01\x02abcd"), Startup{Kind: CancelRequest, PID: 258, Key: []byte("abcd")}},
		"CancelRequest 3.2": {packet(codeCancel, "\x00\x00\x00\x07"+longKey), Startup{Kind: CancelRequest, PID: 7, Key: []byte(longKey)}},
		"database defaults to user": {
			packet(version30, "user\x00u\x00\x00"),
			Startup{Kind: StartupMessage, Major: 3, User: "u", Database: "u", Params: []Param{{"user", "u"}}},
		},
		"empty database defaults to user": {
			packet(version30, "database\x00\x00user\x00u\x00\x00"),
			Startup{Kind: StartupMessage, Major: 3, User: "u", Database: "u", Params: []Param{{"database", ""}, {"user", "u"}}},
		},
		"order is kept, newer minor reported": {
			packet(version30+2, "b\x001\x00user\x00u\x00a\x002\x00database\x00d\x00_pq_.x\x00\x00\x00"),
			Startup{
				Kind: StartupMessage, Major: 3, Minor: 2, User: "u", Database: "d",
				Params: []Param{{"b", "1"}, {"user", "u"}, {"a", "2"}, {"database", "d"}, {"_pq_.x", ""}},
			},
		},
	} {
		r := bytes.NewReader(append(tc.in, "rest"...))
		got, err := ReadStartup(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("%s: %q left in the reader, want %q", name, rest, "rest")
		}
	}
}

func TestReadStartupRefusesHostilePackets(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		code string
	}{
		"no terminator":          {packet(version30, "user\x00u\x00"), CodeProtocolViolation},
		"name without its end":   {packet(version30, "user"), CodeProtocolViolation},
		"value without its end":  {packet(version30, "user\x00u"), CodeProtocolViolation},
		"odd number of strings":  {packet(version30, "user\x00u\x00database\x00"), CodeProtocolViolation},
		"odd, with terminator":   {packet(version30, "user\x00u\x00options\x00\x00"), CodeProtocolViolation},
		"bytes after terminator": {packet(version30, "user\x00u\x00\x00x"), CodeProtocolViolation},
		"second terminator":      {packet(version30, "user\x00u\x00\x00\x00"), CodeProtocolViolation},
		"duplicate name":         {packet(version30, "user\x00u\x00user\x00root\x00\x00"), CodeProtocolViolation},
		"empty":                  {packet(version30, ""), CodeProtocolViolation},
		"no user":                {packet(version30, "database\x00d\x00\x00"), CodeInvalidAuthorization},
		"no parameters":          {packet(version30, "\x00"), CodeInvalidAuthorization},
		"empty user":             {packet(version30, "user\x00\x00\x00"), CodeInvalidAuthorization},
	} {
		_, err := ReadStartup(bytes.NewReader(tc.in))
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code() != tc.code {
			t.Errorf("%s: %v, want a refusal with %s", name, err, tc.code)
		}
	}
}

func TestReadStartupTakesCancelKeysOfEachLengthThatExists(t *testing.T) {
	for n := range 300 {
		got, err := ReadStartup(bytes.NewReader(packet(codeCancel, "\x00\x00\x00\x01"+strings.Repeat("k", n))))
		var lengthErr *LengthError
		switch {
		case n >= minCancelKey && n <= maxCancelKey:
			if err != nil || len(got.Key) != n {
				t.Errorf("key of %d bytes: %d, %v", n, len(got.Key), err)
			}
		case !errors.As(err, &lengthErr):
			t.Errorf("key of %d bytes: %v, want a LengthError", n, err)
		}
	}
}

func TestReadStartupKnowsARequestWhateverFollowsInItsPacket(t *testing.T) {
	for code, want := range map[uint32]StartupKind{codeSSL: SSLRequest, codeGSSENC: GSSENCRequest} {
		got, err := ReadStartup(bytes.NewReader(packet(code, "xxxx")))
		if err != nil || got.Kind != want {
			t.Errorf("%v: got %v, %v", want, got.Kind, err)
		}
		text := fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", code>>16, code&0xffff)
		if err := want.AsVersion(); err.Error() != text {
			t.Errorf("%v as a version: %v, want %s", want, err, text)
		}
	}
}

func TestReadStartupRefusesOtherVersions(t *testing.T) {
	for _, v := range [][2]uint32{{2, 0}, {1, 0}, {4, 0}, {0, 0}, {1234, 9999}} {
		_, err := ReadStartup(bytes.NewReader(packet(v[0]<<16|v[1], "user\x00u\x00\x00")))
		var got *Refused
		want := fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", v[0], v[1])
		if !errors.As(err, &got) || got.Error() != want || got.Code() != "0A000" {
			t.Errorf("%v: got %v, want %s", v, err, want)
		}
	}
}

func TestReadStartupChecksLengthBeforeItAllocates(t *testing.T) {
	for _, length := range []uint32{0, 3, 4, 7, 10005, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff} {
		in := append(binary.BigEndian.AppendUint32(nil, length), make([]byte, 64)...)
		const runs = 100
		var before, after runtime.MemStats
		var err error
		runtime.ReadMemStats(&before)
		for range runs {
			_, err = ReadStartup(bytes.NewReader(in))
		}
		runtime.ReadMemStats(&after)
		var lengthErr *LengthError
		if !errors.As(err, &lengthErr) {
			t.Errorf("length %d: %v, want a LengthError", length, err)
		}
		if perRun := (after.TotalAlloc - before.TotalAlloc) / runs; perRun > 4096 {
			t.Errorf("length %d: %d bytes allocated for a refusal", length, perRun)
		}
	}
	longest := packet(version30, "user\x00"+strings.Repeat("u", 10000-4-7)+"\x00\x00")
	if _, err := ReadStartup(bytes.NewReader(longest)); err != nil {
		t.Errorf("the longest packet that PostgreSQL takes: %v", err)
	}
}

func TestReadStartupReportsTruncation(t *testing.T) {
	in := packet(version30, "user\x00u\x00\x00")
	for n := range in {
		_, err := ReadStartup(bytes.NewReader(in[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("cut after %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestProtocolOptionsAreThoseWithThePrefix(t *testing.T) {
	s := Startup{Params: []Param{{"user", "u"}, {"_pq_.b", "1"}, {"pq", "x"}, {"_pq_.a", ""}}}
	if diff := cmp.Diff([]string{"_pq_.b", "_pq_.a"}, s.ProtocolOptions()); diff != "" {
		t.Error(diff)
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(packet(version30, "user\x00u\x00database\x00d\x00\x00"))
	f.Add(packet(version30+2, "user\x00u\x00_pq_.x\x00\x00\x00"))
	f.Add(packet(codeCancel, "\x00\x00\x00\x01abcd"))
	f.Add(packet(codeSSL, ""))
	f.Add([]byte{0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		s, err := ReadStartup(r)
		if err != nil {
			return
		}
		length := int(binary.BigEndian.Uint32(data))
		if used := len(data) - r.Len(); used != length {
			t.Fatalf("read %d bytes of a packet of %d", used, length)
		}
		if s.Kind != StartupMessage {
			return
		}
		if s.User == "" || s.Database == "" || s.Major != 3 {
			t.Fatalf("accepted %+v", s)
		}
		// An accepted packet can be encoded again and means the same.
		again, err := AppendStartup(nil, s.Params)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ReadStartup(bytes.NewReader(again))
		second.Minor = s.Minor
		if diff := cmp.Diff(s, second); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func TestReplicationIsAskedForInPostgreSQLsWords(t *testing.T) {
	for value, want := range map[string]bool{
		"true": true, "TRUE": true, "t": true, "tr": true, "on": true, "ON": true, "1": true, "y": true, "yes": true, "database": true,
		"false": false, "F": false, "fal": false, "off": false, "of": false, "0": false, "n": false, "no": false,
	} {
		got, err := Startup{Params: []Param{{"user", "u"}, {"replication", value}}}.Replication()
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "o", "2", "truex", "Database", "-1"} {
		_, err := Startup{Params: []Param{{"replication", value}}}.Replication()
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code() != "22023" || refused.Refusal.Row().Hint == "" {
			t.Errorf("%q: %v", value, err)
		}
	}
	if got, err := (Startup{Params: []Param{{"Replication", "on"}}}).Replication(); got || err != nil {
		t.Errorf("another name: %v, %v", got, err)
	}
}

func TestTLSWithoutAskingIsKnownByItsFirstByte(t *testing.T) {
	r := bytes.NewReader([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
	var begun *TLSError
	if _, err := ReadStartup(r); !errors.As(err, &begun) || len(begun.Begun) != 4 {
		t.Error(err)
	}
}
