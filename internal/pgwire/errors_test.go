package pgwire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestRefusalHasTheFieldsOfPgagroalAndIsWellFormed(t *testing.T) {
	got := RefusalPoolFull.With().Append(nil)
	// Captured from C pgagroal, but with the right length: C pgagroal says 50, which leaves out a zero byte.
	want := append([]byte{'E', 0, 0, 0, 51}, "SFATAL\x00VFATAL\x00C53300\x00Mconnection pool is full\x00\x00"...)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRefusalDropsZeroBytes(t *testing.T) {
	got := RefusalNotAvailable.With("a\x00b").Detail("d\x00d").AppendError([]byte("before"))
	var e pgproto3.ErrorResponse
	if err := e.Decode(got[len("before")+headerLen:]); err != nil {
		t.Fatal(err)
	}
	want := pgproto3.ErrorResponse{
		Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "57P03",
		Message: "the database is not available: ab", Detail: "dd",
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

func TestServersErrorKeepsAllButItsSeverity(t *testing.T) {
	body := "SFATALE FEHLER\x00VFATAL\x00C3D000\x00M" + strings.Repeat("m", 5000) + "\x00Dd\x00Hh\x00xfuture\x00Fpostinit.c\x00L1\x00R\x00\x00"
	for severity, want := range map[string]string{
		SeverityError: strings.Replace(strings.Replace(body, "FATALE FEHLER", "ERROR", 1), "VFATAL", "VERROR", 1),
		SeverityFatal: body,
	} {
		got := AppendServersError(nil, severity, []byte(body))
		if diff := cmp.Diff(AppendMessage(nil, 'E', []byte(want)), got); diff != "" {
			t.Errorf("%s: %s", severity, diff)
		}
	}
	if got, want := AppendServersError(nil, SeverityFatal, []byte("VERROR\x00Mcut off")), AppendMessage(nil, 'E', []byte("VFATAL\x00Mcut off\x00\x00")); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseErrorReadsTheUnlocalizedSeverity(t *testing.T) {
	body := "SFATALE FEHLER\x00VFATAL\x00C57P01\x00MVerbindung beendet\x00Dd\x00Hh\x00Fpostgres.c\x00L1\x00\x00"
	want := ErrorFields{Severity: "FATAL", Code: "57P01", Message: "Verbindung beendet", Detail: "d", Hint: "h"}
	got := ParseError([]byte(body))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Fatal() || got.Class() != "57" {
		t.Errorf("fatal %v, class %q", got.Fatal(), got.Class())
	}
}

func TestADeadPostmasterIsToldFromACommand(t *testing.T) {
	for body, want := range map[string]bool{
		"VFATAL\x00C57P01\x00Mx\x00Fbe-secure.c\x00L204\x00Rsecure_read\x00\x00":       true,
		"VFATAL\x00C57P01\x00Mx\x00Fbe-secure.c\x00L322\x00Rsecure_write\x00\x00":      true,
		"VFATAL\x00C57P01\x00Mx\x00Fpostgres.c\x00L3184\x00RProcessInterrupts\x00\x00": false,
		"VFATAL\x00C57P02\x00Mx\x00Fpostgres.c\x00L2800\x00Rsecure_read\x00\x00":       false,
		"VFATAL\x00C57P01\x00Msecure_read\x00\x00":                                     false,
	} {
		if got := ParseError([]byte(body)).PostmasterDied(); got != want {
			t.Errorf("%q: %v, want %v", body, got, want)
		}
	}
}

func TestParseErrorTakesWhatIsThere(t *testing.T) {
	body := "SERROR\x00VERROR\x00C08006\x00Mgone\x00\x00"
	for n := range len(body) + 1 {
		got := ParseError([]byte(body[:n]))
		if n >= len(body)-7 && got.Code != "08006" || n < 19 && got.Code != "" {
			t.Errorf("cut after %d bytes: %+v", n, got)
		}
	}
	for in, want := range map[string]ErrorFields{
		"":                                   {},
		"\x00":                               {},
		"SPANIC\x00\x00":                     {Severity: "PANIC"},
		"C1\x00\x00":                         {},
		"C5710\n\x00\x00":                    {},
		"C57P011\x00\x00":                    {},
		"M" + strings.Repeat("m", 5000):      {Message: strings.Repeat("m", maxErrorText)},
		"VFATAL\x00SFATALE\x00\x00":          {Severity: "FATAL"},
		"VERROR\x00\x00VFATAL\x00C00000\x00": {Severity: "ERROR"},
	} {
		if diff := cmp.Diff(want, ParseError([]byte(in))); diff != "" {
			t.Errorf("%.20q:\n%s", in, diff)
		}
	}
}
