package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestReadMessageLeavesWhatFollows(t *testing.T) {
	stream := append(AppendQuery(nil, "select 1"), AppendTerminate(nil)...)
	for name, r := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		typ, body, err := ReadMessage(r, 100)
		if err != nil || typ != 'Q' || string(body) != "select 1\x00" {
			t.Fatalf("%s: got %q %q %v", name, typ, body, err)
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(rest, AppendTerminate(nil)) {
			t.Errorf("%s: %x left, want the Terminate (%v)", name, rest, err)
		}
	}
}

func TestReadMessageChecksLengthBeforeItAllocates(t *testing.T) {
	for _, tc := range []struct {
		length uint32
		ok     bool
	}{
		{0, false}, {3, false}, {4, true}, {14, true}, {15, false}, {1 << 30, false}, {0x80000000, false}, {0xffffffff, false},
	} {
		msg := append(binary.BigEndian.AppendUint32([]byte{'D'}, tc.length), make([]byte, 20)...)
		_, body, err := ReadMessage(bytes.NewReader(msg), 10)
		var lengthErr *LengthError
		switch {
		case tc.ok && (err != nil || len(body) != int(tc.length)-4):
			t.Errorf("length %d: %d bytes, %v", tc.length, len(body), err)
		case !tc.ok && (!errors.As(err, &lengthErr) || lengthErr.Type != 'D' || lengthErr.Length != int32(tc.length)):
			t.Errorf("length %d: error %v, want a LengthError", tc.length, err)
		}
	}
}

// roomReader records how much room it is offered beyond what it has given.
type roomReader struct {
	r     io.Reader
	given int
	most  int
}

func (r *roomReader) Read(b []byte) (int, error) {
	r.most = max(r.most, len(b)-r.given)
	n, err := r.r.Read(b)
	r.given += n
	return n, err
}

func TestReadMessageMakesRoomAsTheBodyArrives(t *testing.T) {
	const size = 1 << 20
	for _, sent := range []int{0, 10_000, 100_000, size} {
		body := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		msg := append(binary.BigEndian.AppendUint32([]byte{'p'}, size+4), body[:sent]...)
		r := &roomReader{r: bytes.NewReader(msg)}
		_, got, err := ReadMessage(r, size)
		if sent == size && (err != nil || !bytes.Equal(got, body)) {
			t.Errorf("%d bytes come as %d, %v", size, len(got), err)
		}
		if sent < size && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v", sent, err)
		}
		if r.most > firstPiece {
			t.Errorf("after %d bytes there was room for %d more than had come", sent, r.most)
		}
	}
}

func TestReadMessageTellsAnEndBetweenMessagesFromOneInside(t *testing.T) {
	msg := AppendQuery(nil, "select 1")
	for n := range msg {
		_, _, err := ReadMessage(bytes.NewReader(msg[:n]), 100)
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("cut after %d bytes: %v, want %v", n, err, want)
		}
	}
}
