package pgwire

import (
	"bytes"
	"strings"
	"testing"
)

func TestMessagesOnTheWire(t *testing.T) {
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"ReadyForQuery":            {AppendReadyForQuery(nil, TxFailed), "Z\x00\x00\x00\x05E"},
		"ParameterStatus":          {AppendParameterStatus(nil, "a", "b"), "S\x00\x00\x00\x08a\x00b\x00"},
		"BackendKeyData":           {AppendBackendKeyData(nil, 1, []byte("12345")), "K\x00\x00\x00\x0d\x00\x00\x00\x0112345"},
		"NegotiateProtocolVersion": {AppendNegotiateProtocolVersion(nil, 2, []string{"_pq_.x"}), "v\x00\x00\x00\x13\x00\x03\x00\x02\x00\x00\x00\x01_pq_.x\x00"},
		"AuthenticationOk":         {AppendAuthenticationOK(nil), "R\x00\x00\x00\x08\x00\x00\x00\x00"},
		"cleartext":                {AppendAuthenticationCleartext(nil), "R\x00\x00\x00\x08\x00\x00\x00\x03"},
		"md5":                      {AppendAuthenticationMD5(nil, [4]byte{1, 2, 3, 4}), "R\x00\x00\x00\x0c\x00\x00\x00\x05\x01\x02\x03\x04"},
		"SASL":                     {AppendAuthenticationSASL(nil, "SCRAM-SHA-256"), "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"},
		"SASLContinue":             {AppendAuthenticationSASLContinue(nil, []byte("x")), "R\x00\x00\x00\x09\x00\x00\x00\x0bx"},
		"SASLFinal":                {AppendAuthenticationSASLFinal(nil, []byte("x")), "R\x00\x00\x00\x09\x00\x00\x00\x0cx"},
		"password":                 {AppendPassword(nil, "pw"), "p\x00\x00\x00\x07pw\x00"},
		"SASLInitialResponse":      {AppendSASLInitialResponse(nil, "M", []byte("x")), "p\x00\x00\x00\x0bM\x00\x00\x00\x00\x01x"},
		"SASLResponse":             {AppendSASLResponse(nil, []byte("x")), "p\x00\x00\x00\x05x"},
		"Query":                    {AppendQuery(nil, "a"), "Q\x00\x00\x00\x06a\x00"},
		"any":                      {AppendMessage(nil, 0x78, []byte("ab")), "x\x00\x00\x00\x06ab"},
		"Terminate":                {AppendTerminate(nil), "X\x00\x00\x00\x04"},
		"SSLRequest":               {AppendSSLRequest(nil), "\x00\x00\x00\x08\x04\xd2\x16\x2f"},
		"CancelRequest":            {AppendCancelRequest(nil, 2, []byte("abcde")), "\x00\x00\x00\x11\x04\xd2\x16\x2e\x00\x00\x00\x02abcde"},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("%s: %q, want %q", name, tc.got, tc.want)
		}
	}
}

func TestAppendStartupKeepsOrderAndRefusesWhatWouldSmuggleParameters(t *testing.T) {
	got, err := AppendStartup([]byte("x"), []Param{{"user", "u"}, {"a", ""}})
	want := append([]byte("x"), packet(version30, "user\x00u\x00a\x00\x00\x00")...)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, p := range []Param{{"", "x"}, {"a\x00user", "x"}, {"a", "x\x00user\x00root"}, {"a", strings.Repeat("x", 10000)}} {
		if got, err := AppendStartup([]byte("x"), []Param{p}); err == nil || string(got) != "x" {
			t.Errorf("%.20q: %.20q, %v", p, got, err)
		}
	}
}
