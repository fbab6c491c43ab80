package pgwire

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testInterests() *Interests {
	in := new(Interests)
	in.Set(WithBody, 'Z', 'C', 'E', 'S', 'K')
	in.Set(AtHeader, 'G', 'Q')
	in.Set(AtHeader|AtEnd, 'T')
	in.Set(AtHeader|WithBody, 'P')
	in.Set(AtEnd, 'n')
	in.Set(Refuse, '!')
	return in
}

// seen is an Event with offsets counted from the beginning of the stream.
type seen struct {
	Type       byte
	Phase      Phase
	Start, Pos int
	Length     int
	Body       string
}

// scan feeds stream in chunks whose lengths next returns.
func scan(in *Interests, stream []byte, next func(left int) int) ([]seen, *Scanner, error) {
	s := NewScanner(in)
	var events []seen
	base := 0
	for base < len(stream) {
		n := max(0, min(next(len(stream)-base), len(stream)-base))
		chunk := append([]byte(nil), stream[base:base+n]...) // a copy, so that a read beyond the chunk fails
		var ev Event
		for pos := 0; ; {
			var err error
			if pos, err = s.Next(chunk, pos, &ev); err != nil {
				return events, &s, err
			}
			if ev.Phase == Exhausted {
				break
			}
			events = append(events, seen{ev.Type, ev.Phase, base + ev.Start, base + ev.Pos, ev.Length, string(ev.Body)})
		}
		base += n
	}
	return events, &s, nil
}

func whole(left int) int { return left }
func single(int) int     { return 1 }

func message(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

func TestScannerReportsWhatIsOfInterest(t *testing.T) {
	long := strings.Repeat("x", 3000)
	var stream []byte
	var at []int
	for _, m := range [][]byte{
		message('D', long), message('T', "abc"), message('G', "gg"), message('n', ""),
		message('C', "SELECT 1\x00"), message('E', long), message('P', ""), message('D', ""), AppendReadyForQuery(nil, TxOpen),
	} {
		at = append(at, len(stream))
		stream = append(stream, m...)
	}
	want := []seen{
		{'T', Header, at[1], at[1] + 5, 3, ""},
		{'T', End, at[1], at[2], 3, ""},
		{'G', Header, at[2], at[2] + 5, 2, ""},
		{'n', End, at[3], at[4], 0, ""},
		{'C', End, at[4], at[5], 9, "SELECT 1\x00"},
		{'E', End, at[5], at[6], 3000, long[:MaxBody]},
		{'P', Header, at[6], at[6] + 5, 0, ""},
		{'P', End, at[6], at[7], 0, ""},
		{'Z', End, at[8], len(stream), 1, "T"},
	}
	sizes := []func(int) int{whole, single}
	for cut := 1; cut < len(stream); cut++ {
		sizes = append(sizes, func(left int) int {
			if left == len(stream) {
				return cut
			}
			return left
		})
	}
	for i, size := range sizes {
		got, s, err := scan(testInterests(), stream, size)
		if err != nil || !s.AtBoundary() {
			t.Fatalf("split %d: at boundary %v, %v", i, s.AtBoundary(), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("split %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestScannerStatusOfReadyForQuery(t *testing.T) {
	for body, want := range map[string]byte{"I": 'I', "T": 'T', "E": 'E', "": 0, "II": 0} {
		s := NewScanner(testInterests())
		var ev Event
		if _, err := s.Next(message('Z', body), 0, &ev); err != nil || ev.Status() != want {
			t.Errorf("%q: status %q, %v", body, ev.Status(), err)
		}
	}
}

func TestScannerRefusesBadLengthsAndTypesForGood(t *testing.T) {
	for _, tc := range []struct {
		typ    byte
		length uint32
		ok     bool
	}{
		{'D', 0, false},
		{'D', 3, false},
		{'Z', 3, false},
		{'D', 4, true},
		{'D', math.MaxInt32, true},
		{'D', math.MaxInt32 + 1, false},
		{'D', math.MaxUint32, false},
		{'!', 4, false},
	} {
		in := binary.BigEndian.AppendUint32([]byte{tc.typ}, tc.length)
		for name, size := range map[string]func(int) int{"whole": whole, "single": single} {
			_, s, err := scan(testInterests(), in, size)
			if tc.ok != (err == nil) {
				t.Errorf("%c %d %s: %v", tc.typ, tc.length, name, err)
			}
			if err == nil {
				continue
			}
			var lengthErr *LengthError
			var typeErr *TypeError
			if tc.typ == '!' && !errors.As(err, &typeErr) || tc.typ != '!' && !errors.As(err, &lengthErr) {
				t.Errorf("%c %d %s: %T", tc.typ, tc.length, name, err)
			}
			ev := Event{Phase: End}
			if _, again := s.Next(AppendReadyForQuery(nil, TxIdle), 0, &ev); again == nil || ev.Phase != Exhausted || s.AtBoundary() {
				t.Errorf("%c %d %s: went on after the error", tc.typ, tc.length, name)
			}
		}
	}
}

func TestScannerSkipsGigabytesWithoutMemory(t *testing.T) {
	s := NewScanner(testInterests())
	var ev Event
	chunk := make([]byte, 1<<20)
	copy(chunk, binary.BigEndian.AppendUint32([]byte{'d'}, math.MaxInt32))
	sent := 0
	for end := math.MaxInt32 + 1; sent < end; sent += len(chunk) {
		if left := end - sent; left < len(chunk) {
			chunk = append(chunk[:left], AppendReadyForQuery(nil, TxIdle)...)
		}
		pos, err := s.Next(chunk, 0, &ev)
		if err != nil || sent+len(chunk) < end && (pos != len(chunk) || ev.Phase != Exhausted) {
			t.Fatalf("after %d bytes: pos %d, %+v, %v", sent, pos, ev, err)
		}
		clear(chunk[:headerLen])
	}
	chunk = AppendReadyForQuery(chunk[:0], TxIdle)
	if _, err := s.Next(chunk, 0, &ev); err != nil || ev.Type != 'Z' {
		t.Fatalf("after the message: %+v, %v", ev, err)
	}
	if cap(s.kept) != 0 {
		t.Errorf("%d bytes kept", cap(s.kept))
	}
}

func TestScannerTellsHowMuchOfAHeaderToHoldBack(t *testing.T) {
	s := NewScanner(testInterests())
	var ev Event
	msg := message('A', "xyz")
	for n := range headerLen {
		if s.SplitHeader() != n {
			t.Errorf("after %d bytes: %d", n, s.SplitHeader())
		}
		if _, err := s.Next(msg[n:n+1], 0, &ev); err != nil || s.AtBoundary() {
			t.Fatalf("after %d bytes: at boundary %v, %v", n+1, s.AtBoundary(), err)
		}
	}
	if s.SplitHeader() != 0 {
		t.Errorf("with a whole header: %d", s.SplitHeader())
	}
}

func TestScannerAllocatesNothingInSteadyState(t *testing.T) {
	stream := benchStream(4096)
	s := NewScanner(testInterests())
	cut := 0
	run := func() {
		var ev Event
		cut = (cut + 7) % len(stream)
		for _, chunk := range [][]byte{stream[:cut], stream[cut:]} {
			for pos := 0; ; {
				var err error
				if pos, err = s.Next(chunk, pos, &ev); err != nil {
					t.Fatal(err)
				}
				if ev.Phase == Exhausted {
					break
				}
			}
		}
	}
	for range len(stream) {
		run() // with every cut once, so that the memory for split bodies has its final size
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations per two chunks", n)
	}
	s.Trim()
	if s.kept != nil {
		t.Error("Trim kept the memory")
	}
}

func TestRefuseOthersKeepsKnownTypesAndInterests(t *testing.T) {
	in := new(Interests)
	in.Set(AtEnd, 'x')
	in.RefuseOthers("ab")
	for typ, want := range map[byte]Interest{'a': 0, 'b': 0, 'x': AtEnd, 'c': Refuse, 0: Refuse, 255: Refuse} {
		if in[typ] != want {
			t.Errorf("%q: %d, want %d", typ, in[typ], want)
		}
	}
}

// FuzzScanner checks that the events of a stream don't depend on how it is cut into chunks.
func FuzzScanner(f *testing.F) {
	f.Add(benchStream(300), []byte{1, 2, 3})
	f.Add(append(message('E', "SERROR\x00C57P01\x00\x00"), 'Z', 0, 0, 0, 5, 'I'), []byte{5, 1})
	f.Add([]byte{'D', 0, 0, 0, 3, 'Z', 0, 0}, []byte{4})
	f.Add(message('T', strings.Repeat("x", 2000)), []byte{255, 0, 9})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		want, ws, wantErr := scan(testInterests(), stream, whole)
		i := 0
		byCuts := func(left int) int {
			i++
			if i > len(cuts) {
				return left
			}
			return int(cuts[i-1])
		}
		for _, size := range []func(int) int{single, byCuts} {
			got, gs, err := scan(testInterests(), stream, size)
			if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("error %v, want %v", err, wantErr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("(-whole +cut):\n%s", diff)
			}
			if gs.AtBoundary() != ws.AtBoundary() || gs.SplitHeader() != ws.SplitHeader() {
				t.Fatal("the ends differ")
			}
		}
	})
}

// benchStream returns rows of 100 bytes between RowDescription, CommandComplete and ReadyForQuery, n bytes or more.
func benchStream(n int) []byte {
	b := message('T', strings.Repeat("t", 30))
	for len(b) < n {
		b = append(b, message('D', strings.Repeat("r", 95))...)
	}
	b = append(b, message('C', "SELECT 100\x00")...)
	return AppendReadyForQuery(b, TxIdle)
}

func BenchmarkScanner(b *testing.B) {
	for _, bm := range []struct {
		name   string
		stream []byte
	}{
		{"rows of 100 bytes", benchStream(64 << 10)},
		{"one prepared select", append(append(append(append(message('1', ""), message('2', "")...), message('D', "0123456789")...), message('C', "SELECT 1\x00")...), AppendReadyForQuery(nil, TxIdle)...)},
		{"one row of 64 KiB", message('D', strings.Repeat("r", 64<<10))},
	} {
		b.Run(bm.name, func(b *testing.B) {
			in := testInterests()
			messages := 0
			for rest := bm.stream; len(rest) > 0; rest = rest[1+binary.BigEndian.Uint32(rest[1:]):] {
				messages++
			}
			s := NewScanner(in)
			b.SetBytes(int64(len(bm.stream)))
			b.ReportAllocs()
			for b.Loop() {
				var ev Event
				for pos := 0; ; {
					var err error
					if pos, err = s.Next(bm.stream, pos, &ev); err != nil {
						b.Fatal(err)
					}
					if ev.Phase == Exhausted {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
		})
	}
}
